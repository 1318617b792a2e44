"""The state machine allows the rules in its docstring, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.deployment.states import (
    Accepted,
    Activated,
    Activating,
    Collected,
    Committed,
    Failed,
    HealthChecked,
    IllegalTransition,
    Installed,
    LoadTested,
    Operation,
    ProbeReport,
    Record,
    Release,
    RolledBack,
    Started,
    TargetCreated,
    TargetState,
    Verified,
    step,
)

AT = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
FINE = ProbeReport(load_s=1.0, output_tokens_per_s=10.0, answers=("hello",), answer_sha256=("a" * 64,))
CREATED = step(TargetState(), TargetCreated(at=AT, name="edge"))


def deployment_id(number: int) -> str:
    return f"deploy_20260111_142500_000_{number:06x}"


def release(letter: str, counter: int = 1) -> Release:
    return Release(
        digest=letter * 64,
        bundle=f"milton_edge_bundle_{letter}_20260111_142500",
        model_version=letter,
        run_id="benchmark_20260111_142500",
        counter=counter,
        primary="model/weights.gguf",
        manifest_sha256="1" * 64,
        decision_sha256="2" * 64,
        evidence_sha256="3" * 64,
    )


def begin(number: int, what: Release, operation: Operation = Operation.DEPLOY) -> list[Record]:
    """The records of an attempt up to, and without, `activating`."""
    name = deployment_id(number)
    return [
        Started(at=AT, deployment=name, operation=operation, actor="ada", bundle="/bundles/x"),
        Accepted(at=AT, deployment=name, release=what),
        Verified(at=AT, deployment=name, files=3, size_bytes=10, reused=False),
        LoadTested(at=AT, deployment=name, report=FINE),
        Installed(at=AT, deployment=name),
    ]


def run(state: TargetState, *records: Record) -> TargetState:
    for record in records:
        state = step(state, record)
    return state


def activating(state: TargetState, number: int) -> Activating:
    return Activating(
        at=AT, deployment=deployment_id(number), from_release=state.active, fallback=state.known_good or state.active
    )


def committed(state: TargetState, number: int, what: Release, operation: Operation = Operation.DEPLOY) -> TargetState:
    name = deployment_id(number)
    state = run(state, *begin(number, what, operation))
    state = run(state, activating(state, number), Activated(at=AT, deployment=name))
    return step(state, Committed(at=AT, deployment=name, proved=True))


def test_a_committed_release_is_active_and_known_good() -> None:
    state = committed(CREATED, 1, release("a"))
    assert (state.active, state.known_good, state.in_flight) == ("a" * 64, "a" * 64, None)


def test_nothing_happens_before_the_target_is_created() -> None:
    with pytest.raises(IllegalTransition, match="never created"):
        step(TargetState(), begin(1, release("a"))[0])


def test_a_target_is_created_once() -> None:
    with pytest.raises(IllegalTransition, match="exists already"):
        step(CREATED, TargetCreated(at=AT, name="edge"))


def test_two_attempts_never_overlap() -> None:
    state = run(CREATED, begin(1, release("a"))[0])
    with pytest.raises(IllegalTransition, match="another attempt is in flight"):
        step(state, begin(2, release("b"))[0])


def test_a_deployment_id_is_used_once() -> None:
    state = committed(CREATED, 1, release("a"))
    with pytest.raises(IllegalTransition, match="was used before"):
        step(state, begin(1, release("b"))[0])


@pytest.mark.parametrize("skipped", [1, 2, 4])
def test_no_step_before_activation_is_skipped(skipped: int) -> None:
    records: list[Record] = [
        *begin(1, release("a")),
        Activating(at=AT, deployment=deployment_id(1), from_release=None, fallback=None),
    ]
    del records[skipped]
    with pytest.raises(IllegalTransition):
        run(CREATED, *records)


def test_the_load_test_may_be_skipped_and_then_nothing_is_proved() -> None:
    records = [r for r in begin(1, release("a")) if not isinstance(r, LoadTested)]
    state = run(CREATED, *records)
    state = run(state, activating(state, 1), Activated(at=AT, deployment=deployment_id(1)))
    state = step(state, Committed(at=AT, deployment=deployment_id(1), proved=False))
    assert (state.active, state.known_good) == ("a" * 64, None)


def test_a_commit_cannot_claim_a_proof_that_was_not_given() -> None:
    records = [r for r in begin(1, release("a")) if not isinstance(r, LoadTested)]
    state = run(CREATED, *records)
    state = run(state, activating(state, 1), Activated(at=AT, deployment=deployment_id(1)))
    with pytest.raises(IllegalTransition, match="not what the attempt showed"):
        step(state, Committed(at=AT, deployment=deployment_id(1), proved=True))


def test_a_health_check_proves_too() -> None:
    records = [r for r in begin(1, release("a")) if not isinstance(r, LoadTested)]
    state = run(CREATED, *records)
    name = deployment_id(1)
    state = run(state, activating(state, 1), Activated(at=AT, deployment=name))
    state = run(state, HealthChecked(at=AT, deployment=name, round=1, rounds=1, report=FINE))
    assert step(state, Committed(at=AT, deployment=name, proved=True)).known_good == "a" * 64


def test_a_probe_with_problems_is_never_recorded_as_passed() -> None:
    bad = LoadTested(at=AT, deployment=deployment_id(1), report=FINE.model_copy(update={"problems": ("it says baa",)}))
    with pytest.raises(IllegalTransition, match="names problems"):
        run(CREATED, *begin(1, release("a"))[:3], bad)


def test_after_activating_an_attempt_cannot_merely_fail() -> None:
    state = run(CREATED, *begin(1, release("a")))
    state = step(state, activating(state, 1))
    with pytest.raises(IllegalTransition):
        step(state, Failed(at=AT, deployment=deployment_id(1), reason="x"))


def test_after_committing_nothing_undoes_the_attempt() -> None:
    state = committed(committed(CREATED, 1, release("a")), 2, release("b"))
    for undoing in (
        RolledBack(at=AT, deployment=deployment_id(2), to="a" * 64, reason="the report failed"),
        Failed(at=AT, deployment=deployment_id(2), reason="the report failed"),
    ):
        with pytest.raises(IllegalTransition, match="no attempt is in flight"):
            step(state, undoing)


def test_going_back_leads_to_the_release_before_or_the_last_known_good_one_only() -> None:
    state = committed(CREATED, 1, release("a"))
    state = run(state, *begin(2, release("b")))
    state = step(state, activating(state, 2))
    with pytest.raises(IllegalTransition, match="neither"):
        step(state, RolledBack(at=AT, deployment=deployment_id(2), to="c" * 64, reason="x"))
    assert step(state, RolledBack(at=AT, deployment=deployment_id(2), to="a" * 64, reason="x")).active == "a" * 64


def test_going_back_from_the_first_release_leaves_nothing_active() -> None:
    state = run(CREATED, *begin(1, release("a")))
    state = step(state, activating(state, 1))
    assert step(state, RolledBack(at=AT, deployment=deployment_id(1), to=None, reason="x")).active is None


def test_an_activation_must_name_where_it_comes_from() -> None:
    state = committed(CREATED, 1, release("a"))
    state = run(state, *begin(2, release("b")))
    with pytest.raises(IllegalTransition, match="not the active release"):
        step(state, Activating(at=AT, deployment=deployment_id(2), from_release=None, fallback="a" * 64))


def test_a_rollback_goes_to_the_release_before_and_then_further() -> None:
    state = CREATED
    for number, letter in enumerate("abc", start=1):
        state = committed(state, number, release(letter))
    state = committed(state, 4, release("b"), Operation.ROLLBACK)
    assert (state.active, state.previous) == ("b" * 64, "a" * 64)
    state = committed(state, 5, release("a"), Operation.ROLLBACK)
    assert (state.active, state.previous) == ("a" * 64, None)


def test_a_rollback_to_anything_else_is_refused() -> None:
    state = committed(committed(CREATED, 1, release("a")), 2, release("b"))
    with pytest.raises(IllegalTransition, match="release before"):
        run(state, *begin(3, release("b"), Operation.ROLLBACK))


def test_deploying_the_active_release_again_does_not_lengthen_the_lineage() -> None:
    state = committed(committed(CREATED, 1, release("a")), 2, release("a"))
    assert state.lineage == ("a" * 64,)


def test_the_active_and_the_known_good_release_are_never_collected() -> None:
    state = committed(committed(CREATED, 1, release("a")), 2, release("b"))
    with pytest.raises(IllegalTransition, match="active or last known good"):
        step(state, Collected(at=AT, actor="ada", releases=("b" * 64,), freed_bytes=1))
    after = step(state, Collected(at=AT, actor="ada", releases=("a" * 64,), freed_bytes=1))
    assert (after.active, after.previous, sorted(after.releases)) == ("b" * 64, None, ["b" * 64])


def test_nothing_is_collected_while_an_attempt_is_in_flight() -> None:
    state = run(committed(CREATED, 1, release("a")), begin(2, release("b"))[0])
    with pytest.raises(IllegalTransition, match="in flight"):
        step(state, Collected(at=AT, actor="ada", releases=("c" * 64,), freed_bytes=1))


def test_a_record_of_another_deployment_is_refused() -> None:
    state = run(CREATED, begin(1, release("a"))[0])
    with pytest.raises(IllegalTransition, match="is in flight"):
        step(state, begin(2, release("a"))[1])


def test_the_state_remembers_the_latest_time_even_when_the_clock_goes_back() -> None:
    state = step(CREATED, begin(1, release("a"))[0].model_copy(update={"at": AT - timedelta(days=9)}))
    assert state.last_at == AT


def test_the_highest_counter_never_goes_down() -> None:
    state = committed(committed(CREATED, 1, release("a", counter=7)), 2, release("b", counter=3))
    assert state.highest_counter == 7


def any_record() -> st.SearchStrategy[Record]:
    name = st.integers(1, 3).map(deployment_id)
    digest = st.sampled_from(["a" * 64, "b" * 64])
    maybe = st.none() | digest
    at = st.just(AT)
    return st.one_of(
        st.builds(Started, at=at, deployment=name, operation=st.sampled_from(Operation), actor=st.just("ada")),
        st.builds(Accepted, at=at, deployment=name, release=st.sampled_from([release("a"), release("b")])),
        st.builds(Verified, at=at, deployment=name, files=st.just(1), size_bytes=st.just(1), reused=st.booleans()),
        st.builds(LoadTested, at=at, deployment=name, report=st.just(FINE)),
        st.builds(Installed, at=at, deployment=name),
        st.builds(Activating, at=at, deployment=name, from_release=maybe, fallback=maybe),
        st.builds(Activated, at=at, deployment=name),
        st.builds(Committed, at=at, deployment=name, proved=st.booleans()),
        st.builds(RolledBack, at=at, deployment=name, to=maybe, reason=st.just("x")),
        st.builds(Failed, at=at, deployment=name, reason=st.just("x")),
        st.builds(Collected, at=at, actor=st.just("ada"), releases=digest.map(lambda d: (d,)), freed_bytes=st.just(1)),
    )


@given(st.lists(any_record(), max_size=60))
def test_whatever_is_tried_what_is_active_was_committed_and_is_still_known(records: list[Record]) -> None:
    state = CREATED
    committed_releases = {None}
    for record in records:
        flight = state.in_flight
        try:
            state = step(state, record)
        except IllegalTransition:
            continue
        if isinstance(record, Committed) and flight is not None and flight.release is not None:
            committed_releases.add(flight.release.digest)
        assert state.active in committed_releases
        assert state.known_good in committed_releases
        assert state.protected <= state.releases.keys()
