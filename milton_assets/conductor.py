"""The conductor: `milton autobench`, or `dagster job execute -j autobench`, the whole road in one run.

What belongs here: the order of the child runs, which of them an interrupted campaign needs no more, and what is said on
the terminal. What does not: what the children do, and what a campaign's measurements depend on
(`milton_assets.usecases.resuming`). One bad model fails alone: its child run fails, the others go on, and the decision
names it with the reason. Where the instance launches runs on workers, the children go there, all candidates at once.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from dagster import (
    AssetKey,
    DagsterExecutionInterruptedError,
    DagsterInstance,
    DagsterRunStatus,
    DynamicPartitionsDefinition,
    JobDefinition,
    MetadataValue,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    OpExecutionContext,
    RunsFilter,
    in_process_executor,
    job,
    op,
)

from milton_assets.assets.evidence import ANCHOR_TAG, CAMPAIGN_TAG, CANDIDATE_TAG, CONDUCTED_TAG, VARIANTS_TAG
from milton_assets.assets.goldens import observe_goldens
from milton_assets.assets.links import page_of, runs_of_campaign
from milton_assets.campaign.choice import AutobenchConfig, chosen_candidates, chosen_tiers
from milton_assets.campaign.one_at_a_time import after_the_daemons_campaign, only_campaign, only_campaign_of_all_hosts
from milton_assets.campaign.runs import UNFINISHED, cancel, end_what_was_killed, new_run_id, others_that_led
from milton_assets.jobs import (
    BENCHMARK_MODEL,
    BENCHMARK_ON_CLASS,
    DEPLOY,
    DEPLOYMENT_ASSET,
    PROMOTE,
    ROLL_OUT,
    ROLLOUT_ASSET,
)
from milton_assets.partitions import BENCHMARK_RUNS, EDGE_TARGETS, MODEL_VERSIONS, MODELS_ON_CLASSES, ROLLOUTS
from milton_assets.rollout.states import Stage
from milton_assets.rollout.turns import next_turn
from milton_assets.selection.anchoring import Due
from milton_assets.selection.outcome import MANY_TARGETS, print_outcome
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.side_by_side import print_side_by_side
from milton_assets.selection.summary import RunSummary, read_summary
from milton_assets.settings import LogLevel
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.anchors import Named, anchors_due, may_be_due, what_differs
from milton_assets.usecases.dry_run import print_dry_run
from milton_assets.usecases.how_long import times_the_effort
from milton_assets.usecases.incumbent import heard_of_last
from milton_assets.usecases.resuming import conditions_of, why_not_resumed
from milton_assets.usecases.rollouts import names_of, rollout_of, rollouts_of_run
from milton_assets.usecases.settings_check import check_campaign
from milton_assets.usecases.shared_history import mirrored_anywhere
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.campaign import UnfinishedCampaign
from milton_assets.vocabulary.errors import EvidenceMismatch, MiltonError
from milton_assets.vocabulary.figure import counted
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens
from milton_assets.vocabulary.keys import class_of, mint_variants_seed, rollout_of_run
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.terminal import console, printable, tell
from milton_assets.vocabulary.tier import TierResult, asset_of, asset_on_class
from milton_assets.vocabulary.tier_spec import Conditions
from resources.campaign import Campaign
from resources.console_logger import logged_at, was_interrupted
from resources.dagster_private import (
    NEVER_RETRIED,
    WITHOUT_LIMIT,
    OperationalError,
    ended_run,
    launch_child,
    launches_elsewhere,
    mark_on_page,
    postgres_url,
    show_in_ui,
    start_child,
    tell_interrupts_in_words,
)
from resources.durations import Durations
from resources.edge_server import EdgeServer
from resources.evidence_log import (
    BUNDLE_ASSET,
    DECISION_ASSET,
    REGISTRY_ENTRY_ASSET,
    measured_in,
    place_of,
    why_last_run_failed,
)
from resources.evidence_store import EvidenceStore
from resources.model_server import EdgeServerResource, ModelServerResource
from resources.object_store_patience import wait_for_the_object_store
from resources.parquet_io import EvidenceStoreResource
from resources.progress import Meter, duration, forget, meter
from resources.registry_resource import RegistryResource

WAITING_POLL_S = 0.5

LED_TO = {
    BENCHMARK_MODEL: REGISTRY_ENTRY_ASSET,
    BENCHMARK_ON_CLASS: asset_on_class("inference"),
    PROMOTE: DECISION_ASSET,
    DEPLOY: DEPLOYMENT_ASSET,
    ROLL_OUT: ROLLOUT_ASSET,
}
"""The asset that a child of that job is about, to whose page the campaign's leads."""


@dataclass(frozen=True)
class _Child:
    """A run that the conductor wants: one job for one partition. `assets` narrows it to these of the job's."""

    job_name: str
    partition: str
    partitions: DynamicPartitionsDefinition | MultiPartitionsDefinition
    tags: Mapping[str, str] = field(default_factory=dict)
    ops: Mapping[str, Any] = field(default_factory=dict)
    assets: Sequence[str] = ()


@dataclass(frozen=True)
class _Conductor:
    """One run of `autobench`: what it was started with, and the child runs it can start."""

    context: OpExecutionContext
    campaign: Campaign
    store: EvidenceStore
    record: UnfinishedCampaign
    shown: Meter
    registry: RegistryResource
    kind: ArtefactKind

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def instance(self) -> DagsterInstance:
        return self.context.instance

    def say(self, line: str) -> None:
        """A line on the terminal and in the run's log."""
        self.shown.say(line)
        self.context.log.info(line)

    @property
    def tiers(self) -> list[str]:
        """The tiers that this machine measures: all, but for those of speed where no target is decided for by it."""
        known, here = installed_tiers(), self.campaign.decides_here()
        return [tier for tier in self.record.conditions.tiers if here or not known[tier].per_class]

    @property
    def places(self) -> list[tuple[str, str]]:
        """Each tier that is measured on reference devices, with each class that has one."""
        known = installed_tiers()
        per_class = [tier for tier in self.record.conditions.tiers if known[tier].per_class]
        return [(tier, name) for name in self.campaign.class_references for tier in per_class]

    def measured(self, version: str) -> list[str]:
        """The tiers that this campaign measured of that version already, on this machine."""
        return [tier for tier in self.tiers if self._is_measured(version, tier, None)]

    def measurements(self) -> tuple[int, int]:
        """How many measurements are done, and how many there are."""
        versions = list(self.record.conditions.candidates)
        done = sum(len(self.measured(version)) for version in versions)
        done += sum(self._is_measured(version, *place) for version in versions for place in self.places)
        return done, len(versions) * (len(self.tiers) + len(self.places))

    def _is_measured(self, version: str, tier: str, device_class: str | None) -> bool:
        tags = {CAMPAIGN_TAG: self.run_id}
        return measured_in(self.instance, self.store, *place_of(tier, version, device_class), tags)

    def benchmark_on_classes(self) -> None:
        """Measure on each class's reference device what is not measured there yet, or was when it was another machine.

        What a device's owner sets there is known only when it serves, so what was measured before an interruption is
        held against what was measured since.
        """
        versions = list(self.record.conditions.candidates)
        for name, reference in self.campaign.class_references.items():
            before, since = list[str](), list[str]()
            for version in versions:
                if why_last_run_failed(self.instance, version) is not None:
                    continue  # it is out, whatever the device would say
                if all(self._is_measured(version, tier, on) for tier, on in self.places if on == name):
                    before.append(version)
                elif self._measured_on(version, name, reference, "measured on"):
                    since.append(version)
            for version in before if since else ():
                if how := self._otherwise_then(name, version, since[-1]):
                    self.say(
                        f"{version} was measured on {reference} before the interruption, when it was another: {how}"
                    )
                    self._measured_on(version, name, reference, "measured again on")

    def _measured_on(self, version: str, device_class: str, reference: str, how: str) -> bool:
        """Have the version measured on the class's reference device; whether it was."""
        versions = list(self.record.conditions.candidates)
        place = f"{versions.index(version) + 1}/{len(versions)}"
        self.say(f"model {place} {version}: {how} {reference}, for the class {device_class}")
        key = MultiPartitionKey({"device_class": device_class, "model_version": version})
        done = self.child(_Child(BENCHMARK_ON_CLASS, key, MODELS_ON_CLASSES, tags={CANDIDATE_TAG: place}))
        if not done:
            self.say(f"model {place} {version}: failed on {reference}; the others go on")
        return done

    def _otherwise_then(self, device_class: str, version: str, newest: str) -> str:
        """How the reference device was another when it measured `version` than when it measured `newest`; or empty."""
        found = dict.fromkeys(
            how
            for tier, on in self.places
            if on == device_class
            for how in self._device_of(tier, version, on).comparable_with(self._device_of(tier, newest, on))
        )
        return "; ".join(found)

    def _device_of(self, tier: str, version: str, device_class: str) -> Fingerprint:
        """The device and its server as the version's latest table of the class describes them."""
        file = self.store.latest(*place_of(tier, version, device_class))
        if file is None:
            raise EvidenceMismatch(f"there is no table of {version} on the class {device_class}, which was measured")
        return Fingerprint.model_validate(TierResult.from_table(file.read()).provenance["fingerprint"])

    def benchmark(self) -> None:
        """Measure what is not measured yet: model by model here, or all at once where there are workers."""
        sent: list[tuple[str, str, str]] = []
        versions, tiers = list(self.record.conditions.candidates), self.tiers
        for number, version in enumerate(versions, 1):
            measured = self.measured(version)
            missing = [tier for tier in tiers if tier not in measured]
            if not missing and why_last_run_failed(self.instance, version) is None:
                self.say(f"model {number}/{len(versions)} {version}: measured before the interruption")
                continue
            whole = len(missing) == len(installed_tiers())
            assets = [] if whole else [REGISTRY_ENTRY_ASSET, *(asset_of(tier) for tier in missing)]
            place = f"{number}/{len(versions)}"
            tags = {CANDIDATE_TAG: place, VARIANTS_TAG: self.record.variants_seed}
            wanted = _Child(BENCHMARK_MODEL, version, MODEL_VERSIONS, tags=tags, assets=assets)
            if launches_elsewhere(self.instance):
                sent.append((place, version, self.launched(wanted)))
                continue
            _wait_for_accelerator(self.instance, self.campaign.accelerator_pool, self.say)
            if not self.child(wanted):
                self.say(f"model {place} {version}: failed; the others go on")
        for place, version, run_id in sent:
            if not self.followed(BENCHMARK_MODEL, version, run_id):
                self.say(f"model {place} {version}: failed; the others go on")

    def benchmark_anchors(self) -> None:
        """Measure again, once, the best that was deployed, where it is no candidate and has no figures from the
        environment that what serves is measured in now."""
        wanted = self._anchors()
        self.shown.joined_by([f"{named.version} (anchor)" for named in wanted])
        first = len(self.record.conditions.candidates) + 1
        for number, (named, dues) in enumerate(wanted.items(), first):
            places = {place: None for run_id, one in dues for place in _places(run_id, one.tiers)}
            left = [(tier, on) for tier, on in places if not self._is_measured(named.key, tier, on)]
            place = f"{number}/{self.shown.candidates}"
            if not left:
                self.say(f"model {place} {named.version}, an anchor: measured before the interruption")
                continue
            self.say(f"model {place} {named.version}: {self._why_again(*dues[0], [tier for tier, _ in left])}")
            tags = {CANDIDATE_TAG: place, VARIANTS_TAG: self.record.variants_seed, ANCHOR_TAG: named.tag}
            assets = [REGISTRY_ENTRY_ASSET, *(asset_of(tier) for tier, on in left if on is None)]
            _wait_for_accelerator(self.instance, self.campaign.accelerator_pool, self.say)
            done = self.child(_Child(BENCHMARK_MODEL, named.key, MODEL_VERSIONS, tags=tags, assets=assets))
            for on in dict.fromkeys(on for _, on in left if on is not None):
                key = MultiPartitionKey({"device_class": on, "model_version": named.key})
                done = done and self.child(_Child(BENCHMARK_ON_CLASS, key, MODELS_ON_CLASSES, tags=tags))
            if not done:
                self.say(f"model {place} {named.version}, an anchor: failed; the decision says what follows")

    def _anchors(self) -> dict[Named, list[tuple[str, Due]]]:
        """The anchors that are due, each with the decisions that want it."""
        policy, current = load_policy(self.campaign.policy), self.registry.read()
        found: dict[Named, list[tuple[str, Due]]] = {}
        for run_id in self.decided:
            due = anchors_due(
                run_id,
                self.store,
                policy.incumbent,
                self._serving(run_id),
                current,
                self.kind,
                installed_tiers(),
                let_go=self.campaign.anchors_let_go,
            )
            for one in due:
                found.setdefault(Named(one.version, one.artefact_sha256), []).append((run_id, one))
        return found

    def _serving(self, run_id: str) -> str | None:
        """What the targets of that run were last heard to serve; none is asked."""
        targets = open_targets(self.campaign.state, self.campaign.target_paths, server=EdgeServer)
        return heard_of_last(self.campaign.targets_of(run_id), mirrored_anywhere(self.store, targets))

    def _why_again(self, run_id: str, one: Due, tiers: Sequence[str]) -> str:
        """Why an anchor is measured again, by what, and how long that may take."""
        differs = what_differs(one, run_id, self.store, self._serving(run_id), installed_tiers())
        seconds = self.shown.usual_s(tiers)
        return (
            f"the best deployed on {' and '.join(one.metrics)} is no candidate, and its figures of {one.newest.run_id} "
            f"are from another environment{f' ({differs})' if differs else ''}; measured again by {', '.join(tiers)}"
            + (f", about {duration(seconds)}" if seconds is not None else "")
        )

    @property
    def decided(self) -> dict[str, list[str]]:
        """The runs that decide in this campaign, each with the targets that get its winner."""
        return self.campaign.runs_of(self.run_id)

    def decide(self) -> None:
        """Decide and bundle for each class, unless this campaign did so before it was interrupted.

        Raises `MiltonError`.
        """
        for run_id in self.decided:
            self.say(f"{run_id}: deciding")
            done = RunsFilter(job_name=PROMOTE, tags={"dagster/partition": run_id}, statuses=[DagsterRunStatus.SUCCESS])
            if not self.instance.get_runs_count(done) and not self.child(_Child(PROMOTE, run_id, BENCHMARK_RUNS)):
                raise MiltonError(
                    f"the promote run of {run_id} failed",
                    remedy="mend what is said above; the same command then decides on what was measured, and measures "
                    "nothing again",
                )

    def deploy(self) -> list["_NotDone"]:
        """Take each bundle there is to every target of its run that has not got it: to several of a class gradually,
        as the class's settings plan it. What failed, or waits for a person."""
        failed: list[_NotDone] = []
        for run_id in self.decided:
            summary = read_summary(self.store.runs, run_id)
            there = {deployment.target for deployment in summary.deployments}
            for device_class, targets in self.campaign.classes_of(run_id).items() if summary.bundle else ():
                if len(targets) > 1:
                    failed += self.roll_out(run_id, device_class)
                elif targets[0] not in there:
                    self.say(f"{run_id}: deploying to {targets[0]}")
                    ops = {DEPLOYMENT_ASSET: {"config": {"run_id": run_id}}}
                    if not self.child(_Child(DEPLOY, targets[0], EDGE_TARGETS, ops=ops)):
                        failed.append(
                            _NotDone(
                                f"deployment failed on {targets[0]}; nothing there was changed",
                                f"milton deploy --run {run_id} --target {targets[0]}",
                            )
                        )
        return failed

    def roll_out(self, run_id: str, device_class: str) -> Iterator["_NotDone"]:
        """Take the run's bundle to the targets of the class, a child run a wave, as far as something can be done now;
        what keeps it from its end."""
        name, state_dir = rollout_of_run(run_id, device_class), self.campaign.state
        ops = {ROLLOUT_ASSET: {"config": {"run_id": run_id, "device_class": device_class}}}
        last_turn = None
        while True:
            state = rollout_of(state_dir, name) if name in names_of(state_dir) else None
            due = next_turn(state, last_turn, datetime.now(UTC)) if state else datetime.now(UTC)
            if due is None or due > datetime.now(UTC):
                break
            wave = f"wave {state.wave + 1} of {len(state.plan.waves)}" if state else "its first wave"
            self.say(f"{run_id}: rollout {name}, {wave}, to targets of the class {device_class}")
            if not self.child(_Child(ROLL_OUT, name, ROLLOUTS, ops=ops)):
                yield _NotDone(f"a wave of the rollout {name} failed", f"milton rollout resume {name}")
                return
            last_turn = datetime.now(UTC)
        if state is None or state.stage is Stage.DONE:
            return
        if due is not None:
            self.say(
                f"{run_id}: the rollout {name} waits for {state.undecided} targets until {due:%Y-%m-%d %H:%M} UTC; the "
                f"daemon goes on then, or `milton rollout resume {name}`"
            )
            return
        yield _NotDone(
            f"the rollout {name} is {state.stage}: {state.why}",
            f"milton rollout status {name}, then milton rollout resume or abort {name}",
        )

    def lead(self) -> list["_NotDone"]:
        """The whole campaign: benchmark, decide, deploy; what failed, or waits for a person.

        Where workers run the children, a database that goes away amid a question ends no campaign: what is done is
        kept, and what is under way is followed.
        """
        while True:
            try:
                self.benchmark()
                self.benchmark_on_classes()
                self.benchmark_anchors()
                self.decide()
                return self.deploy()
            except OperationalError as error:
                if not (launches_elsewhere(self.instance) and error.connection_invalidated):
                    raise
                self.say("the database went away amid a question; going on with what it kept")

    def child(self, wanted: _Child) -> bool:
        """Run it to its end; whether it succeeded. An interrupt stops the conductor too.

        It runs in this process, or where the instance launches runs on workers, on one of them.
        The partition is added now and no sooner: one that never ran would stand as missing in the UI for ever.
        """
        if launches_elsewhere(self.instance):
            return self.followed(wanted.job_name, wanted.partition, self.launched(wanted))
        job = self._job_of(wanted)
        given: Mapping[str, Any] = self.context.run.run_config
        resources = {key: config for key, config in given.get("resources", {}).items() if key in job.resource_defs}
        config = {
            **logged_at(self.campaign.log_level),
            "resources": {**resources, **self.campaign.pinned()},
            "ops": dict(wanted.ops),
        }
        run, events = start_child(
            job,
            self.instance,
            parent=self.context.run_id,
            partition=wanted.partition,
            tags={CONDUCTED_TAG: self.context.run_id, CAMPAIGN_TAG: self.run_id, **NEVER_RETRIED, **wanted.tags},
            run_config=config,
            assets=wanted.assets,
        )
        self._begins(wanted.job_name, wanted.partition, run.run_id)
        succeeded = False
        for event in events:
            succeeded = succeeded or event.is_job_success
            if was_interrupted(event):
                # Otherwise Dagster would call it a failure, and show the stack of the interrupt.
                self.instance.report_run_canceling(run, message="interrupted together with its campaign")
                list(events)
                raise DagsterExecutionInterruptedError
        self._link(wanted.job_name, wanted.partition, run.run_id, succeeded=succeeded)
        return succeeded

    def _job_of(self, wanted: _Child) -> JobDefinition:
        """Its job, for whose run the partition is there now."""
        job = self.context.repository_def.get_job(wanted.job_name)
        for name, key in _keys_added(wanted.partitions, wanted.partition):
            self.instance.add_dynamic_partitions(name, [key])
        return job

    def launched(self, wanted: _Child) -> str:
        """Hand it to the instance's launcher, unless this conductor has done so and it is under way; the run's id.

        Its resources are those of the worker's settings: paths of this host are no paths there.
        """
        job_name, partition = wanted.job_name, wanted.partition
        ours = {CONDUCTED_TAG: self.context.run_id, "dagster/partition": str(partition)}
        for run in self.instance.get_runs(RunsFilter(job_name=job_name, tags=ours), limit=1):
            if ended_run(self.instance, run.run_id) is None:
                return run.run_id
        places = partition.keys_by_dimension.values() if isinstance(partition, MultiPartitionKey) else [partition]
        queue = self.campaign.queue_tags(job_name, *places)
        run = launch_child(
            self._job_of(wanted),
            self.instance,
            parent=self.context.run_id,
            partition=partition,
            tags={CONDUCTED_TAG: self.context.run_id, CAMPAIGN_TAG: self.run_id, **queue, **wanted.tags},
            run_config={**logged_at(self.campaign.log_level), "ops": dict(wanted.ops)},
            assets=wanted.assets,
        )
        self._begins(job_name, partition, run.run_id)
        self.say(f"{job_name} of {partition}: handed to {' '.join(queue.values()) or 'the workers'}")
        return run.run_id

    def followed(self, job_name: str, partition: str, run_id: str) -> bool:
        """Wait until that run, or the one that the daemon started in its place, is over; whether it succeeded.

        An interrupt cancels it.
        """
        try:
            while (ended := ended_run(self.instance, run_id)) is None:
                time.sleep(WAITING_POLL_S)
        except DagsterExecutionInterruptedError:
            for run in self.instance.get_runs(
                RunsFilter(tags={CONDUCTED_TAG: self.context.run_id}, statuses=UNFINISHED)
            ):
                cancel(self.instance, run, "interrupted together with its campaign")
            raise
        succeeded = ended.status is DagsterRunStatus.SUCCESS
        self._link(job_name, partition, ended.run_id, succeeded=succeeded)
        return succeeded

    def _begins(self, job_name: str, partition: str, run_id: str) -> None:
        """Have the campaign's page say how far it is and lead to the child, and the child's lead to the campaign."""
        done, wanted = self.measurements()
        self._mark(
            f"{job_name} of {partition} begins; {done} of {wanted} measurements are done",
            job_name,
            partition,
            run_id,
            begins=f"{job_name} of {partition}",
        )
        self._lead_back(run_id)

    def _lead_back(self, run_id: str) -> None:
        """Have the child's page lead to the campaign: as the first line for who watches it, as the last for who comes
        later, since a page opens at its end."""
        links = {"campaign": MetadataValue.dagster_run(self.context.run_id), "its runs": runs_of_campaign(self.run_id)}
        mark_on_page(self.instance, run_id, f"part of the campaign {self.run_id}", links)

    def _mark(self, message: str, job_name: str, partition: str, run_id: str, **ends: str) -> None:
        """A line on the campaign's page, where each child is a bar of its own in the chart."""
        links = {"run": MetadataValue.dagster_run(run_id), "its asset": page_of(LED_TO[job_name], partition)}
        mark_on_page(self.instance, self.context.run_id, message, links, step=self.context.op.name, **ends)

    def _link(self, job_name: str, partition: str, run_id: str, *, succeeded: bool) -> None:
        """Have the campaign's page say how the run ended, and the run's lead to the campaign once more."""
        what = f"{job_name} of {partition}"
        self._mark(f"{what} {'succeeded' if succeeded else 'failed'}", job_name, partition, run_id, ends=what)
        self._lead_back(run_id)


@op(description="Benchmark every candidate, decide, bundle and deploy; go on with a campaign that was interrupted.")
def conduct(
    context: OpExecutionContext,
    config: AutobenchConfig,
    registry: RegistryResource,
    campaign: Campaign,
    model_server: ModelServerResource,
    evidence_store: EvidenceStoreResource,
    edge_runtime: EdgeServerResource,
) -> None:
    """Read the registry, benchmark every candidate, decide, bundle, deploy, and say what came of it."""
    campaign, state = config.over(campaign, context.instance), campaign.state
    wait_for_the_object_store()
    show_in_ui(context.instance, context.run_id, context.repository_def.name)
    shared = only_campaign_of_all_hosts(context.instance, wait=config.wait)
    with _cancelled_when_interrupted(context), only_campaign(state.campaign_lock, wait=config.wait), shared:
        after_the_daemons_campaign(context.instance, wait=config.wait)
        current = registry.read()
        chosen = chosen_candidates(current, registry.store().uri, config.only)
        tiers = chosen_tiers(config.tiers)
        if config.dry_run or campaign.dry_run:
            run_id, store = new_run_id(context.instance), evidence_store.store
            kind, let_go = model_server.artefact_kind, campaign.anchors_let_go
            anchors = may_be_due(campaign.runs_of(run_id), store, current, kind, let_go=let_go)
            print_dry_run(run_id, current, campaign, installed_tiers(), console(), anchors)
            return
        check_campaign(campaign, model_server.launcher, edge_runtime.edge_server)
        code = {tier: _code_version(context, tier) for tier in tiers}
        conditions = conditions_of(
            chosen, code, golden_digests(installed_tiers(), campaign.goldens), campaign, model_server
        )
        left = UnfinishedCampaign.read(state.unfinished_campaign)
        why_not = why_not_resumed(left, conditions, datetime.now(UTC), wanted=config.resume)
        if left is not None:
            end_what_was_killed(context.instance, left.conductors)
        if postgres_url(context.instance):
            end_what_was_killed(context.instance, others_that_led(context.instance, context.run_id))
        if left is None or why_not:
            run_id = new_run_id(context.instance)
            record = UnfinishedCampaign(
                run_id=run_id,
                began_at=datetime.now(UTC),
                conditions=conditions,
                variants_seed=mint_variants_seed(),
                conductors=(context.run_id,),
            )
        else:
            record = left.led_by(context.run_id)
        record.write(state.unfinished_campaign)
        context.instance.add_run_tags(context.run_id, {CAMPAIGN_TAG: record.run_id})
        shown = meter(
            record.run_id,
            tuple(installed_tiers()),
            len(conditions.candidates),
            order=tuple(conditions.candidates),
            remembered=Durations.read(state.durations, campaign.profile.value),
        )
        conductor = _Conductor(
            context, campaign, evidence_store.store, record, shown, registry, model_server.artefact_kind
        )
        try:
            _say_what_begins(conductor, left, why_not, model_server)
            observe_goldens(context.instance, installed_tiers(), campaign.goldens)
            failed = conductor.lead()
            state.unfinished_campaign.unlink(missing_ok=True)
            _say_what_came_of_it(conductor, failed)
        except DagsterExecutionInterruptedError:
            _say_interrupted(conductor)
            raise
        finally:
            forget(record.run_id)


def autobench_job(level: LogLevel) -> JobDefinition:
    """The conductor's job; Dagster itself says on the terminal what `level` lets it."""

    @job(
        executor_def=in_process_executor,
        # What the launchpad opens with: everything that may be told, as it is when nobody says anything.
        config={**logged_at(level), "ops": {"conduct": {"config": AutobenchConfig().model_dump()}}},
        run_tags={**NEVER_RETRIED, **WITHOUT_LIMIT},
        description="The whole road: benchmark every candidate, decide, bundle, deploy.",
    )
    def autobench() -> None:
        conduct()

    return autobench


def _code_version(context: OpExecutionContext, tier: str) -> str:
    key = AssetKey(asset_of(tier))
    return str(context.repository_def.assets_defs_by_key[key].code_versions_by_key[key])


def _wait_for_accelerator(instance: DagsterInstance, pool: str, say: Any) -> None:
    """Wait, and say so, while other runs hold every place of the pool: inside a child the wait would be silent."""
    said = False
    while True:
        info = instance.event_log_storage.get_concurrency_info(pool)
        if not info.claimed_slots or len(info.claimed_slots) < (info.limit or info.slot_count):
            return
        if not said:
            holders = ", ".join(sorted(slot.run_id for slot in info.claimed_slots))
            say(f"waiting for the accelerator, which Dagster run {holders} holds; Ctrl-C stops the waiting")
            said = True
        time.sleep(WAITING_POLL_S)


@contextmanager
def _cancelled_when_interrupted(context: OpExecutionContext) -> Iterator[None]:
    """An interrupt ends the run as cancelled: for Dagster it would be a failure. Neither its page nor a child's has the
    stack of it."""
    tell_interrupts_in_words(context.instance)
    try:
        yield
    except DagsterExecutionInterruptedError:
        run = context.instance.get_run_by_id(context.run_id)
        if run is None or CAMPAIGN_TAG not in run.tags:
            tell("interrupted; nothing was measured")
        context.instance.report_run_canceling(context.run, message="interrupted (Ctrl-C)")
        raise


def _say_what_begins(
    conductor: _Conductor, left: UnfinishedCampaign | None, why_not: Sequence[str], model_server: ModelServerResource
) -> None:
    run_id, conditions, campaign = conductor.run_id, conductor.record.conditions, conductor.campaign
    if left is not None and why_not:
        conductor.say(f"{left.run_id} did not end and is not gone on with: {printable('; '.join(why_not))}")
    if left is not None and not why_not:
        conductor.say(f"{run_id}: goes on where it was interrupted; {_progress(conductor)}")
    conductor.say(
        f"{run_id}: {counted(len(conditions.candidates), 'candidate')} × {counted(len(conditions.tiers), 'tier')}, "
        f"profile {campaign.profile}, policy {campaign.policy}, served by {printable(model_server.describe())}"
    )
    conductor.say(f"{run_id}: {_how_long(conductor)}")
    for note in campaign.chosen.notes:
        conductor.say(f"{run_id}: {printable(note)}")
    for name, reference in campaign.class_references.items():
        conductor.say(f"{run_id}: the class {name} gets a winner of its own, by its speed on {reference}")
    if unmeasured := campaign.classes_measured_here():
        conductor.say(
            f"{run_id}: speed for {', '.join(unmeasured)} is taken from this machine; a reference device measures it "
            "where it will serve (docs/classes.md)"
        )
    if campaign.reuse_answers and campaign.state.answers.is_dir():
        conductor.say(f"{run_id}: what unchanged models answered before is reused; timing is always measured anew")


def _how_long(conductor: _Conductor) -> str:
    """What is known before anything is measured."""
    profile, seconds = conductor.campaign.profile, conductor.shown.expected_s()
    if seconds is None:
        campaign, tiers = conductor.campaign, installed_tiers()
        known = "full" if profile == "smoke" else "smoke"
        look = conductor.shown.expected_s(known)
        if look is None:
            return f"the profile {profile} was not timed here before: how long is told once a model is through"
        wanted = Conditions(
            profile=str(profile),
            slo=campaign.slo,
            rerank=campaign.rerank.value,
            variants_seed=conductor.record.variants_seed,
            reasoning_budget_s=campaign.reasoning_budget_s,
        )
        times = times_the_effort(tiers, read_all_goldens(tiers, campaign.goldens), wanted, known)
        if times is None:
            return f"the profile {profile} was not timed here before; {known} takes about {duration(look)} here"
        guess = duration(conductor.shown.expected_s(known, times) or 0.0)
        return f"about {guess}, reckoned from what {known} took here ({duration(look)}): {profile} was not timed before"
    return f"all tiers over all candidates took about {duration(seconds)} under the profile {profile} before"


def _say_interrupted(conductor: _Conductor) -> None:
    tell(f"interrupted; {_progress(conductor)}")
    tell("next: the same command goes on from there, `milton autobench --new` starts over")


def _progress(conductor: _Conductor) -> str:
    done, wanted = conductor.measurements()
    return f"{done} of {wanted} measurements of {conductor.run_id} are kept"


class _NotDone(NamedTuple):
    """A deployment, or a rollout, that did not come to its end, and what to type once that is mended."""

    what: str
    then: str


def _say_what_came_of_it(conductor: _Conductor, failed: Sequence[_NotDone]) -> None:
    summaries = [read_summary(conductor.store.runs, run_id) for run_id in conductor.decided]
    links: dict[str, Any] = {}
    for summary in summaries:
        named = "" if len(summaries) == 1 else f" ({class_of(summary.run_id) or 'this machine'})"
        rollouts = rollouts_of_run(conductor.campaign.state, summary.run_id)
        links |= {f"{name}{named}": value for name, value in _links(summary, rollouts).items()}
    links["all runs of this campaign"] = runs_of_campaign(conductor.run_id)
    conductor.context.add_output_metadata(links)
    for summary in summaries:
        print_outcome(summary, conductor.store.runs, conductor.campaign.state, console(), installed_tiers())
    print_side_by_side(summaries, console())
    if failed:
        raise MiltonError(
            "; ".join(one.what for one in failed),
            remedy=f"mend what is said above, then: {failed[0].then}",
        )


def _links(summary: RunSummary, rollouts: Sequence[str]) -> dict[str, Any]:
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


def _places(run_id: str, tiers: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each of the tiers with where it is measured for that decision: on a class's reference device, or here (None)."""
    known = installed_tiers()
    for tier in tiers:
        yield tier, class_of(run_id) if known[tier].per_class else None


def _keys_added(
    partitions: DynamicPartitionsDefinition | MultiPartitionsDefinition, partition: str
) -> Iterator[tuple[str, str]]:
    """The dynamic partitions that a key of `partitions` stands for, by name."""
    if isinstance(partition, MultiPartitionKey) and isinstance(partitions, MultiPartitionsDefinition):
        for dimension in partitions.partitions_defs:
            if isinstance(dimension.partitions_def, DynamicPartitionsDefinition):
                yield _name(dimension.partitions_def), partition.keys_by_dimension[dimension.name]
    elif isinstance(partitions, DynamicPartitionsDefinition):
        yield _name(partitions), partition


def _name(partitions: DynamicPartitionsDefinition) -> str:
    assert partitions.name is not None  # noqa: S101 - all three are named
    return partitions.name
