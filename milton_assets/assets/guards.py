"""What stands at every asset's door: a run has a partition, and a dry run makes nothing.

What belongs here: the guard. What does not: what a metric's dry run says (`milton_assets.usecases.dry_run`).

Dagster lets a partitioned asset run without a partition. In a dry run nothing is stored, because a `skipped` table
would become the latest evidence of a model that was measured before; what lies downstream is then skipped by Dagster.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

from dagster import AssetExecutionContext, Output

from milton_assets.usecases.dry_run import WHY
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Metric
from resources.campaign import Campaign


def guarded(make: Callable[..., Any]) -> Callable[..., Iterator[Output[Any]]]:
    """Make the asset, unless the campaign is a dry run. The asset takes `campaign` and has no required output.

    Raises `BadInput` in a run without a partition.
    """
    return guarded_by(tuple)(make)


def guarded_by(skipped: Callable[[], Sequence[Metric]]) -> Callable[..., Callable[..., Iterator[Output[Any]]]]:
    """`guarded` for an asset of which a dry run also says which metrics were `skipped`."""

    def guard(make: Callable[..., Any]) -> Callable[..., Iterator[Output[Any]]]:
        @wraps(make)
        def made(context: AssetExecutionContext, *, campaign: Campaign, **given: Any) -> Iterator[Output[Any]]:
            name = context.asset_key.path[-1]
            if not context.has_partition_key:
                raise BadInput(
                    f"{name} was run without a partition",
                    expected="one partition key",
                    remedy="choose a partition in the UI, or pass --partition KEY",
                )
            if campaign.dry_run:
                context.log.info(f"{name} of {context.partition_key}: skipped ({WHY})")
                for metric in skipped():
                    context.log.info(f"{metric.name}: {metric.status} ({metric.why})")
                return
            output = make(context, campaign=campaign, **given)
            yield from output if inspect.isgenerator(output) else [output]

        return made

    return guard
