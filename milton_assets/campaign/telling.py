"""What a person is told of a campaign: when it begins, when it is interrupted, and what came of it.

What belongs here: sentences on the terminal and in the run's log, and what the run's own page links to. What does not:
what a stage says while it runs (`milton_assets.campaign.stages`), and how results are drawn
(`milton_assets.selection.outcome`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from milton_assets.assets.links import page_of, runs_of_campaign
from milton_assets.campaign.under_way import NotDone, UnderWay
from milton_assets.jobs import DEPLOYMENT_ASSET, ROLLOUT_ASSET
from milton_assets.selection.outcome import MANY_TARGETS, print_outcome
from milton_assets.selection.side_by_side import print_side_by_side
from milton_assets.selection.summary import RunSummary, read_summary
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.how_long import times_the_effort
from milton_assets.usecases.rollouts import rollouts_of_run
from milton_assets.vocabulary.campaign import UnfinishedCampaign
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.figure import counted
from milton_assets.vocabulary.golden_set import TierGoldens
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.terminal import console, printable, tell
from milton_assets.vocabulary.tier_spec import Conditions
from resources.evidence_log import BUNDLE_ASSET, DECISION_ASSET
from resources.model_server import ModelServerResource
from resources.progress import duration


def say_what_begins(
    campaign: UnderWay,
    left: UnfinishedCampaign | None,
    why_not: Sequence[str],
    goldens: Mapping[str, TierGoldens],
    model_server: ModelServerResource,
) -> None:
    """Say what is measured, how and how long that may take; of a campaign that was `left`, whether it is gone on
    with, or `why_not`."""
    run_id, conditions, settings = campaign.run_id, campaign.record.conditions, campaign.settings
    if left is not None and why_not:
        campaign.say(f"{left.run_id} did not end and is not gone on with: {printable('; '.join(why_not))}")
    if left is not None and not why_not:
        campaign.say(f"{run_id}: goes on where it was interrupted; {_progress(campaign)}")
    campaign.say(
        f"{run_id}: {counted(len(conditions.candidates), 'candidate')} × {counted(len(conditions.tiers), 'tier')}, "
        f"profile {settings.profile}, policy {settings.policy}, served by {printable(model_server.describe())}"
    )
    campaign.say(f"{run_id}: {_how_long(campaign, goldens)}")
    for note in settings.chosen.notes:
        campaign.say(f"{run_id}: {printable(note)}")
    for name, reference in settings.class_references.items():
        campaign.say(f"{run_id}: the class {name} gets a winner of its own, by its speed on {reference}")
    if unmeasured := settings.classes_measured_here():
        campaign.say(
            f"{run_id}: speed for {', '.join(unmeasured)} is taken from this machine; a reference device measures it "
            "where it will serve (docs/classes.md)"
        )
    if settings.reuse_answers and settings.state.answers.is_dir():
        campaign.say(f"{run_id}: what unchanged models answered before is reused; timing is always measured anew")


def say_interrupted(campaign: UnderWay) -> None:
    """Say what is kept of it, and how to go on."""
    tell(f"interrupted; {_progress(campaign)}")
    tell("next: the same command goes on from there, `milton autobench --new` starts over")


def say_what_came_of_it(campaign: UnderWay, failed: Sequence[NotDone]) -> None:
    """Say what each of its decisions is and what came of that, and have the run's page lead there.

    Raises `MiltonError` for what `failed`, with what to type once that is mended.
    """
    summaries = [read_summary(campaign.store.runs, run_id) for run_id in campaign.decided]
    links: dict[str, Any] = {}
    for summary in summaries:
        named = "" if len(summaries) == 1 else f" ({class_of(summary.run_id) or 'this machine'})"
        rollouts = rollouts_of_run(campaign.settings.state, summary.run_id)
        links |= {f"{name}{named}": value for name, value in _links(summary, rollouts).items()}
    links["all runs of this campaign"] = runs_of_campaign(campaign.run_id)
    campaign.context.add_output_metadata(links)
    for summary in summaries:
        print_outcome(summary, campaign.store.runs, campaign.settings.state, console(), installed_tiers())
    print_side_by_side(summaries, console())
    if failed:
        raise MiltonError(
            "; ".join(one.what for one in failed),
            remedy=f"mend what is said above, then: {failed[0].then}",
        )


def _progress(campaign: UnderWay) -> str:
    done, wanted = campaign.measurements()
    return f"{done} of {wanted} measurements of {campaign.run_id} are kept"


def _how_long(campaign: UnderWay, goldens: Mapping[str, TierGoldens]) -> str:
    """What is known before anything is measured."""
    settings, shown = campaign.settings, campaign.shown
    profile, seconds = settings.profile, shown.expected_s()
    if seconds is not None:
        return f"all tiers over all candidates took about {duration(seconds)} under the profile {profile} before"
    known = "full" if profile == "smoke" else "smoke"
    look = shown.expected_s(known)
    if look is None:
        return f"the profile {profile} was not timed here before: how long is told once a model is through"
    wanted = Conditions(
        profile=str(profile),
        slo=settings.slo,
        rerank=settings.rerank.value,
        variants_seed=campaign.record.variants_seed,
        reasoning_budget_s=settings.reasoning_budget_s,
    )
    times = times_the_effort(installed_tiers(), goldens, wanted, known)
    if times is None:
        return f"the profile {profile} was not timed here before; {known} takes about {duration(look)} here"
    guess = duration(shown.expected_s(known, times) or 0.0)
    return f"about {guess}, reckoned from what {known} took here ({duration(look)}): {profile} was not timed before"


def _links(summary: RunSummary, rollouts: Sequence[str]) -> Mapping[str, Any]:
    decision = summary.decision
    links: dict[str, Any] = {"verdict": f"{decision.verdict} {decision.winner or ''}".strip()}
    links |= {f"reason {number}": reason for number, reason in enumerate(decision.reasons, 1)}
    links["decision"] = page_of(DECISION_ASSET, summary.run_id)
    if summary.bundle:
        links["bundle"] = page_of(BUNDLE_ASSET, summary.run_id)
        links |= {f"rollout {name}": page_of(ROLLOUT_ASSET, name) for name in rollouts}
        links |= {
            f"deployment on {told.target}": page_of(DEPLOYMENT_ASSET, told.target)
            for told in summary.deployments[-MANY_TARGETS:]
        }
    return links
