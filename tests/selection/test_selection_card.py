"""The card: what it must tell somebody who was not there, in the terminal and in Markdown."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from milton_assets.assets.evidence import metrics_markdown
from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.metric import Interval, Metric
from tests.support.dagster_markdown import NEEDS_NODE, rendered
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS


def decided(*candidates: Candidate, incumbent: str | None = None) -> Decision:
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=load_policy("seed"),
        manifest=manifest(candidates),
        incumbent=incumbent,
        tiers=TIERS,
    )


def drawn(decision: Decision, width: int = 100) -> str:
    out = io.StringIO()
    card.render(decision, Console(file=out, width=width, color_system=None), TIERS)
    return out.getvalue()


TYPICAL = (
    candidate("v1.20260111.1425", (104.2, 101.0, 109.9), (83.1, 80.0, 86.0), (0.97, 0.93, 0.99), 0.61),
    candidate("v1.20260111.1425-q8_0", 130.0, 61.0, (0.98, 0.94, 0.99), (0.62, 0.55, 0.70)),
    candidate("v2.20260111.1425-q4_0", 80.0, 144.0, (0.40, 0.31, 0.50), 0.41),
    candidate("v3", excluded="its benchmark run failed"),
)


def test_the_card_tells_figures_intervals_gates_ranking_verdict_and_reasons() -> None:
    text = drawn(decided(*TYPICAL, incumbent="v2.20260111.1425-q4_0"))
    for expected in (
        "PROMOTE v1.20260111.1425",
        RUN_ID,
        "policy seed v6",
        "104 ",
        "101–110",
        "0.930–0.990",
        "tokens/s",
        "serves today",
        "cove_pass_rate >= 0.9 (point)",
        "refused (fail)",
        "Why this verdict",
        "gate cove_pass_rate >= 0.9 not reached: 0.4 [0.31, 0.5]",
        "its benchmark run failed",
        "Pareto front",
    ):
        assert expected in text, expected


def test_verdict_winner_and_reasons_come_before_the_figures() -> None:
    decision = decided(*TYPICAL)
    for shown in (drawn(decision), card.to_markdown(decision, TIERS)):
        titles = ("PROMOTE v1", "Why this verdict", "Candidates", "Gates", "Why not the others")
        assert [line.strip("#│ ") for line in shown.splitlines() if line.strip("#│ ").startswith(titles)][:5] == [
            headed if headed != "PROMOTE v1" else "PROMOTE v1.20260111.1425" for headed in titles
        ]
    assert card.to_markdown(decision, TIERS).startswith("## PROMOTE v1")


def test_the_card_fits_a_hundred_columns() -> None:
    longest = candidate("v" * 128, (123456.0, 100000.0, 200000.0), 0.0001, 0.99, 0.6)
    text = drawn(decided(*TYPICAL, longest))
    assert max(map(len, text.splitlines())) <= 100
    assert "vvvv" in text


def test_versions_of_ordinary_length_are_not_broken() -> None:
    assert "v1.20260111.1425-q8_0 " in drawn(decided(*TYPICAL))


@pytest.mark.parametrize(
    ("candidates", "says"),
    [
        ((candidate("a", cove=0.1),), "REJECT: nothing is promoted"),
        ((candidate("a", excluded="it failed"),), "NO VERDICT: the evidence cannot tell"),
        ((), "no candidate stood"),
    ],
)
def test_every_verdict_has_its_headline(candidates: tuple[Candidate, ...], says: str) -> None:
    assert says in drawn(decided(*candidates))
    assert says in card.to_markdown(decided(*candidates), TIERS)


def test_a_figure_that_is_missing_shows_its_status_and_why() -> None:
    text = drawn(decided(candidate("a", cove=Metric.failed("cove_pass_rate", "share", "the server died"))))
    assert "cove_pass_rate is error: the server died" in text


def test_an_invalid_figure_and_failed_attempts_are_marked() -> None:
    shaky = Metric.measured("cove_pass_rate", "share", 0.95, n=30, errors=2)
    assert "2 of 30 failed" in drawn(decided(candidate("a", cove=shaky)))
    assert "not valid" in drawn(decided(candidate("a", cove=shaky.invalidated("too few"))))


def test_what_a_server_said_cannot_steer_the_terminal() -> None:
    text = drawn(decided(candidate("a", excluded="\x1b[2J[bold]boo![/bold]\nPROMOTE")), width=200)
    assert "\x1b" not in text
    assert "\\x1b[2J[bold]boo![/bold]\\x0aPROMOTE" in text


@NEEDS_NODE
def test_a_policys_words_are_only_text_on_the_terminal() -> None:
    decision = decided(*TYPICAL)
    first, *rest = decision.policy.criteria
    policy = decision.policy.model_copy(
        update={"criteria": (first.model_copy(update={"label": "[red]fast[/]"}), *rest)}
    )
    assert f"[red]fast[/] is {first.metric}" in drawn(decision.model_copy(update={"policy": policy}), 200)


def test_the_web_ui_shows_interval_unit_and_standing_apart_from_their_figure() -> None:
    rows = rendered(card.to_markdown(decided(*TYPICAL, incumbent="v2.20260111.1425-q4_0"), TIERS)).rows
    assert rows[0] == [
        "",
        "candidate",
        "latency [ms]",
        "throughput [tokens/s]",
        "reasoning [share]",
        "retrieval [score]",
        "score",
        "P(best)",
    ]
    figures = {row[1]: row[2:6] for row in rows[1 : 1 + len(TYPICAL)]}
    assert figures["v1.20260111.1425 [promoted]"] == [
        "104 [101–110]",
        "83.1 [80.0–86.0]",
        "0.970 [0.930–0.990]",
        "0.610",
    ]
    assert figures["v1.20260111.1425-q8_0 [eligible]"][0] == "130"
    assert figures["v2.20260111.1425-q4_0 [failed a gate; serves today]"][2] == "0.400 [0.310–0.500]"
    gates = next(row for row in rows if row[0] == "v2.20260111.1425-q4_0")
    assert gates[1] == "refused (fail): 0.400 [0.310–0.500]"


@NEEDS_NODE
def test_what_a_server_said_is_only_text_in_the_web_ui() -> None:
    hostile = "\x1b[2J ![x](http://evil/x.png) <img src=x onerror=alert(1)> [a](javascript:alert(1)) | `b` |\n| c |"
    failed = Metric.failed("cove_pass_rate", "share", hostile)
    page = rendered(card.to_markdown(decided(candidate("a", excluded=hostile), candidate("b", cove=failed)), TIERS))
    assert not page.elements & {"img", "a", "script", "input"}
    seen = hostile.replace("\x1b", "\\x1b").replace("\n", " ")
    assert any(seen in item for item in page.items)
    assert [len(row) for row in page.rows[:3]] == [8, 8, 8]


@NEEDS_NODE
def test_the_metrics_of_a_measurement_show_unit_and_interval_in_the_web_ui() -> None:
    measured = Metric.measured(
        "ttft_ms.median", "ms", 214.92, n=30, interval=Interval(low=195.04, high=234, method="t")
    )
    failed = Metric.failed("cove_pass_rate", "share", "<b>500</b> | ![x](http://evil/x.png)")
    page = rendered(metrics_markdown((measured, failed)))
    assert page.rows[1] == ["ttft_ms.median", "215 ms", "195–234", "ok", "30", "0"]
    assert page.rows[2][3] == "error: <b>500</b> | ![x](http://evil/x.png)"
    assert "img" not in page.elements


def test_the_card_shows_what_retrieval_is_to_be_read_against() -> None:
    plain = candidate("a", ndcg=0.61)
    result = plain.tiers["retrieval"]
    beside = (
        Metric.measured("bm25:nDCG@10", "ratio", 0.412, n=60),
        Metric.measured("oracle:nDCG@10", "ratio", 0.873, n=60),
        Metric.measured("random:nDCG@10", "ratio", 0.2, n=60),
    )
    whole = replace(plain, tiers={**plain.tiers, "retrieval": replace(result, metrics=(*result.metrics, *beside))})
    for shown in (drawn(decided(whole)), card.to_markdown(decided(whole), TIERS)):
        said = " ".join(shown.split())
        assert "nDCG@10 of BM25 alone 0.412, nDCG@10 of the best possible order of the same documents 0.873." in said
    assert "For comparison" not in drawn(decided(plain))


def test_a_long_list_is_cut_and_says_so() -> None:
    many = [candidate(f"v{i:02}", latency=10.0 + i) for i in range(25)]
    for text in (drawn(decided(*many)), card.to_markdown(decided(*many), TIERS)):
        assert "5 more in the JSON" in text
        assert "v24" not in text.split("Why not")[0]


def test_equal_figures_read_as_such() -> None:
    assert "a and b are equal on every criterion" in drawn(decided(candidate("a"), candidate("b")))


def test_the_card_shows_the_comparison_with_the_incumbent_and_what_would_change_the_outcome() -> None:
    def paired(version: str, latency: float, right: int, ndcg: float) -> Candidate:
        return candidate(
            version,
            (latency, latency * 0.98, latency * 1.02),
            (50.0, 49.0, 51.0),
            (right / 100, right / 100 - 0.03, min(right / 100 + 0.03, 1.0)),
            ndcg,
            passed=[True] * right + [False] * (100 - right),
            ndcg_by_query=[ndcg] * 10,
        )

    pool = (paired("old", 100, 91, 0.6), paired("new", 10, 99, 0.6), paired("slow", 300, 92, 0.6))
    policy = load_policy("anchored")
    decision = decide(
        run_id=RUN_ID, candidates=pool, policy=policy, manifest=manifest(pool, policy), incumbent="old", tiers=TIERS
    )
    text = drawn(decision)
    # The words, not the escapes: what the UI makes of them is shown above.
    page = card.to_markdown(decision, TIERS).replace("\\", "")
    for shown in (text, page):
        assert "Against old, which serves today" in shown
        assert "8 : 0" in shown
        assert "+900.0%" in shown
        assert "new: yes, it is better on" in shown
        assert "slow: no, it is not shown to be within the margin on ttft_ms.median" in " ".join(shown.split())
    assert "new is at least as good as every other on all criteria" in text
    assert "no weight, halved or raised by half, changes the outcome" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_comparison_that_cannot_be_made_says_so() -> None:
    pool = (candidate("old", (100.0, 98.0, 102.0)), candidate("new", (100.0, 98.0, 102.0)))
    policy = load_policy("anchored")
    decision = decide(
        run_id=RUN_ID, candidates=pool, policy=policy, manifest=manifest(pool, policy), incumbent="old", tiers=TIERS
    )
    assert "unknown" in drawn(decision)
    assert "no shared cases" in " ".join(drawn(decision, width=160).split())
    assert "not shown to be within the margin on output_tokens_per_s" in " ".join(drawn(decision).split())


def test_weights_and_candidates_that_would_change_the_outcome_are_listed() -> None:
    pool = (
        candidate("A", 2.1, 59, 0.98, 0.58),
        candidate("B", 2.6, 38, 0.98, 0.57),
        candidate("C", 1.4, 68, 0.97, 0.57),
        candidate("D", 3.3, 12, 0.92, 0.53),
    )
    text = drawn(decided(*pool))
    assert "without D, A would be promoted" in text
    assert "with the weight of ttft_ms.median halved, A would be promoted" in text


def test_a_weight_that_only_changes_the_ranking_and_what_was_held_are_said() -> None:
    def known(version: str, latency: float, ndcg: float) -> Candidate:
        return candidate(
            version,
            (latency, latency * 0.99, latency * 1.01),
            (50.0, 49.0, 51.0),
            (0.95, 0.94, 0.96),
            (ndcg, ndcg - 0.01, ndcg + 0.01),
        )

    # Each gives up, against "old", more than the margin on what the other is better at.
    pool = [known("old", 70.0, 0.7), known("fast", 30.0, 0.6), known("right", 140.0, 0.8)]
    pool += [known(f"m{i:02}", 80.0 + i, 0.65) for i in range(30)]
    text = " ".join(drawn(decided(*pool, incumbent="old")).split())
    assert "KEEP old" in text
    assert "would lead the ranking, and the outcome would be the same" in text
    assert "no weight, halved or raised by half, changes the outcome" in text
    assert "comparisons with the incumbent are held as they are" in text


def test_an_incumbent_that_holds_its_ground_is_kept_and_nothing_is_rejected() -> None:
    two = (candidate("a", 20.0), candidate("b", 30.0))
    assert "KEEP a: it serves today, and nothing is shown to be better" in drawn(decided(*two, incumbent="a"))
    poor = candidate("a", cove=0.1)
    assert "REJECT: nothing is promoted" in drawn(decided(poor, incumbent="a"))


def test_a_lone_candidate_has_neither_score_nor_probability() -> None:
    text = drawn(decided(candidate("a"), candidate("b", cove=0.1)))
    assert "1.000" not in text and "100%" not in text
    assert "a is the only eligible candidate (1 of 2 candidates is eligible): there was nobody to compare it with" in (
        " ".join(text.split())
    )


def test_in_a_narrow_terminal_names_are_broken_at_their_separators_and_nothing_is_cut_off() -> None:
    text = drawn(decided(*TYPICAL, incumbent="v2.20260111.1425-q4_0"), width=80)
    assert max(map(len, text.splitlines())) <= 80
    table = text.partition("Candidates")[2].partition("Gates")[0]
    for piece in ("v1.20260111.", "1425-q8_0", "101–110", "0.930–0.990", "throughput", "P(best)"):
        assert piece in table.replace("\n", " ").split(), piece


def test_a_figure_that_is_weighed_in_no_score_stands_with_the_gates() -> None:
    decision = decided(*TYPICAL)
    candidates, gates = (part for part in card.sections(decision, TIERS) if part.title in {"Candidates", "Gates"})
    weighed = {criterion.key for criterion in decision.policy.criteria}
    asked = [gate.metric for gate in decision.policy.gates if gate.key not in weighed]
    assert asked == ["kl_to_reference"]
    assert not any("kl_to_reference" in cell for cell in candidates.header)
    assert "kl_to_reference" in gates.caption


@pytest.mark.parametrize(
    ("value", "shown"), [(0.89999, "refused (fail): 0.89999"), (0.9, "admitted (pass): 0.900")], ids=["under", "at"]
)
def test_a_figure_that_misses_its_gate_by_little_is_seen_to(value: float, shown: str) -> None:
    assert shown in card.to_markdown(decided(candidate("a", cove=value)), TIERS).replace("\\", "")


def test_the_probability_of_being_best_is_the_same_number_wherever_it_stands() -> None:
    alike = ((103.0, 101.0, 109.0), (83.1, 80.0, 86.0), (0.97, 0.93, 0.99), (0.61, 0.55, 0.70))
    decision = decided(candidate("a", *alike), candidate("b", (104.2, 101.0, 109.9), *alike[1:]))
    assert decision.confidence is not None
    said = decision.confidence.why.split(" best in ")[1].split()[0]
    (candidates,) = (part for part in card.sections(decision, TIERS) if part.title == "Candidates")
    assert isinstance(candidates, card.Grid)
    assert candidates.rows[0][-1] == said != "100.0%"


def test_what_is_kept_is_not_among_those_that_were_not_chosen() -> None:
    decision = decided(TYPICAL[0], incumbent=TYPICAL[0].version)
    assert card.keeps(decision)
    assert "Why not the others" not in drawn(decision)
