"""What the field said of the incumbent, beside what the benchmark measured, and the one thing that it changes.

    readings(manifest.field, life)          # for the card: each verdict with its error rates and what follows from it
    sent_back(manifest.field, weights)      # the verdict by which these weights went back, if one did

What belongs here: reading the field evidence that a manifest pins. What does not: gathering it
(`milton_assets.usecases.field_evidence`), and the anchors (`life`, `anchoring`).

A canary compared two releases among one device's users, or a fleet's, and judged with an error of its own; its
figures are of other questions than the goldens. So they enter no score, no gate and no test, and alpha is spent as if
they were not there. What they may do is take away an honour: weights that the field sent back, with a signed verdict
that its counts lead to, are not what later challengers are held to as the best that was deployed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from milton_assets.selection.decision import FieldReading
from milton_assets.statistics.shares import wilson
from milton_assets.vocabulary.field_evidence import FieldArm, FieldEvidence, FieldFinding
from milton_assets.vocabulary.ledger import Anchor
from milton_assets.vocabulary.metric import Interval


def sent_back(evidence: FieldEvidence, weights: str | None) -> FieldFinding | None:
    """The verdict by which the field sent the weights with that SHA-256 back; None where the last one did not.

    Only signed verdicts count that evidence led to, and in which these weights were the challenger.
    """
    if weights is None:
        return None
    decided = [one for one in evidence.findings if _is_proof(one) and one.challenger_artefact == weights]
    return decided[-1] if decided and decided[-1].said == "go_back" else None


def _is_proof(finding: FieldFinding) -> bool:
    return finding.by_evidence and finding.signer is not None and finding.said != "not_yet"


def readings(evidence: FieldEvidence, weights: str | None, against: FieldFinding | None) -> tuple[FieldReading, ...]:
    """Each verdict, the latest first; `weights` are the incumbent's as far as they are known, `against` is what
    `sent_back` says of them."""
    return tuple(
        FieldReading(
            finding=one,
            challenger_errors=_rate(one.challenger),
            incumbent_errors=_rate(one.incumbent),
            moves=one == against,
            follows=_follows(evidence, one, weights, against),
        )
        for one in reversed(evidence.findings)
    )


def _rate(arm: FieldArm) -> Interval | None:
    return wilson(arm.units_erred, arm.units) if arm.units else None


def _follows(evidence: FieldEvidence, finding: FieldFinding, weights: str | None, against: FieldFinding | None) -> str:
    if finding == against:
        return f"{finding.challenger_version} is no anchor"
    if finding.challenger_version != evidence.version:
        return f"nothing: it judged {finding.challenger_version}"
    if finding.said != "go_back":
        return "nothing: it was not sent back"
    if not finding.by_evidence:
        return "nothing: a fact ended it, no evidence"
    if finding.signer is None:
        return "nothing: nobody signed it"
    if finding.challenger_artefact is None:
        return "nothing: which weights it judged is not known here"
    if finding.challenger_artefact != weights:
        return "nothing: it judged other weights of that name, or those that serve are not known"
    return "nothing: a later verdict says otherwise"


def notes(evidence: FieldEvidence, against: FieldFinding | None, let_go: Iterable[Anchor]) -> Iterator[str]:
    """What a reader of the decision should know besides: what was not believed, what was left out, what it changed.

    `let_go` are the anchors that the incumbent was, and is not any more.
    """
    for why in evidence.refused:
        yield f"a verdict of the field does not hold and counts for nothing: {why}"
    if evidence.older:
        yield f"{evidence.older} older verdicts of the field on {evidence.version} are not told here"
    if against is not None:
        metrics = ", ".join(one.metric for one in let_go)
        yield (
            f"the field sent {evidence.version} back ({against.canary}), and it serves all the same: challengers are "
            "held to it while it serves, and it is not the best that was deployed on any metric"
            + (f"; it had been on {metrics}" if metrics else "")
        )


def notes_on_winner(evidence: FieldEvidence, winner: str | None) -> Iterator[str]:
    """What the field said of the winner where it stood beside the incumbent before: nothing keeps it out for that."""
    judged = [one for one in evidence.findings if one.challenger_version == winner and _is_proof(one)]
    if judged and judged[-1].said == "go_back":
        yield (
            f"the field sent {winner} back beside {evidence.version} before ({judged[-1].canary}: {judged[-1].why}); "
            "the benchmark does not ask about that, so look at it before it is deployed"
        )
