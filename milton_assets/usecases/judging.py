"""A side model as a judge: who it is, by its server's account, and whether it may judge.

What belongs here: joining the server's account (`resources.side_models`) with the trials
(`milton_assets.tiers.reasoning.judge`), for the graph and the command line alike. What does not: either of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from milton_assets.tiers.reasoning.goldens import LabelledPair
from milton_assets.tiers.reasoning.judge import ModelPin, QualifiedJudge, qualify
from resources.side_models import SideModel, loaded_sha256


@contextmanager
def qualified_judge(
    side: SideModel | None, pairs: Sequence[LabelledPair], candidates: Sequence[ModelPin]
) -> Iterator[QualifiedJudge | None]:
    """The judge, once it has proved itself on `pairs`; None when none is named.

    Raises `ServerFailed` when no such model is served, `JudgeRefused` when it is a candidate or fails a trial.
    """
    if side is None:
        yield None
        return
    with side.attach() as (served, client):
        pin = ModelPin(
            model=served.endpoint.model,
            base_url=served.endpoint.base_url,
            artefact_sha256=loaded_sha256(served.fingerprint),
            server=served.fingerprint,
        )
        yield qualify(client, pin, pairs, candidates)
