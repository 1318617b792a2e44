"""`milton status` and `history`: what runs where, and how it got there.

What belongs here: these verbs' arguments and what they print. What does not: changing it (`deploy`), and what a target
tells (`milton_assets.fleet.target`).
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from milton_assets.cli.common import JsonOption, answer, progress_on_stderr, say_no
from milton_assets.cli.which_target import TargetOption, TargetPathOption, place_of, those_meant
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.figure import counted
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from milton_assets.edge.deployment import Deployment, Release, TargetStatus, Verification
    from milton_assets.fleet.target import Target

T = TypeVar("T")
_WITHIN_S = 60.0
"""How long one of many targets may take to say what it serves."""


def history(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every attempt, the failed ones too: who, when, from what, to what, how it ended. All targets by default.

    Example: milton history --target local
    """
    from milton_assets.fleet.links import Unreachable

    targets, _ = place_of(target, target_path)
    found: list[Deployment] = []
    for place in those_meant(target, target_path):
        try:
            found += place.history()
        except Unreachable as error:  # what it told last is kept here; whether it is still all, only the device knows
            found += targets.mirrored(place.name)
            typer.echo(f"warning: {place.name}: {error.problem}; below is what it told last", err=True)
    found.sort(key=lambda deployment: deployment.started_at)
    payload = [deployment.model_dump(mode="json") for deployment in found]
    answer(payload, as_json=as_json, text=lambda console: _show_history(found, console))


def status(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the release in service whole, and hold it against its digests.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every target there is, as without a target.")] = False,
    within: Annotated[
        float | None,
        typer.Option(
            "--within", metavar="SECONDS", min=0.1, help="How long each of many may take; 60, with --verify no end."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What each target serves now, and what it could go back to. Exits 1 when a target is not as its journal says.

    Looks at the journal, at the links and at whether their releases are there; with --verify also at every byte of the
    release in service. Many targets are asked at once, and one that does not answer in time keeps no other from it.

    Example: milton status --all --within 10
    """

    def ask(place: Target) -> tuple[TargetStatus, Verification | None]:
        return place.status(), place.verify(on_progress=progress_on_stderr()) if verify else None

    if every and (target is not None or target_path is not None):
        raise typer.BadParameter("give --all or one target, not both")
    within_s = within if within is not None or verify else _WITHIN_S
    found, unknown = _of_those_deployed_to(ask, target, target_path, within_s=within_s)
    payload = [
        one.model_dump(mode="json") | ({"verification": read.model_dump(mode="json")} if read else {})
        for one, read in found
    ]
    waiting = ", ".join(place_of(None, None)[0].names()) if not found and not unknown else ""
    answer(payload, as_json=as_json, text=lambda console: _show_status(found, waiting, console))
    broken = [one.target for one, _ in found if one.problems]
    changed = [one.target for one, read in found if read and read.problems]
    said = [f"{name}: {error}" for name, error in unknown]
    if changed:
        said.append(
            f"not what was deployed: {', '.join(changed)}; deploy the bundle again, or `milton rollback --target NAME`"
        )
    if broken:
        said.append(f"not as their journals say: {', '.join(broken)}; `milton recover --target NAME` settles it")
    if said:
        raise say_no("\n".join(said))


def _of_those_deployed_to(
    ask: Callable[[Target], T], name: str | None, path: Path | None, *, within_s: float | None
) -> tuple[list[T], list[tuple[str, MiltonError]]]:
    """What the targets that are meant answer. Where none is named, one that cannot answer keeps no other from it: the
    second list says which and why; those that wait for their first release are left out."""
    from milton_assets.edge.deployment import NeverDeployed
    from milton_assets.fleet.many import ask_each

    there = those_meant(name, path)
    if name is not None or path is not None:
        return [ask(there[0])], []
    answers, failed = [], []
    for place, told in zip(there, ask_each(there, ask, within_s=within_s), strict=True):
        if not isinstance(told, MiltonError):
            answers.append(told)
        elif not isinstance(told, NeverDeployed):
            failed.append((place.name, told))
    return answers, failed


_INDENT = 18


def _show_history(found: list[Deployment], console: Console) -> None:
    """Two lines an attempt, the first of which has date and id whole in 80 columns, and a third for its reason. Words
    are kept whole, however long: a digest or a path is to be copied."""
    if not found:
        console.print("nothing was ever deployed")
        return
    for one in found:
        console.print(f"{one.started_at:%Y-%m-%d %H:%M}  {one.id}  {one.outcome}", markup=False)
        told = [
            f"{one.operation} {one.model_version or 'of nothing that was accepted'} on {one.target} by {one.actor}: "
            f"{release_named(one.from_release)} → {release_named(one.release)}"
        ]
        told += [_in_brief(one.reason)] if one.reason else []
        for text in told:
            lines = textwrap.wrap(
                printable(text),
                max(console.width - _INDENT, _INDENT),
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line in lines:
                console.print(f"{'':{_INDENT}}{line}", markup=False, soft_wrap=True)


def _in_brief(reason: str) -> str:
    """The reason's first line: the others are what a server said before it ended, say."""
    first, *others = reason.splitlines()
    return f"{first} … ({counted(len(others), 'more line')} with --json)" if others else first


def release_named(digest: str | None) -> str:
    """A release as a line names it."""
    return short(digest) if digest else "nothing"


def _show_status(found: list[tuple[TargetStatus, Verification | None]], waiting: str, console: Console) -> None:
    if waiting:
        console.print(f"nothing was deployed yet to: {printable(waiting)}", markup=False, soft_wrap=True)
    elif not found:
        console.print("there are no targets yet; `milton deploy` makes one")
    lines = []
    for one, read in found:
        lines.append(f"{one.target} ({printable(one.target_path)})")
        rows: dict[str, Any] = {
            **({"owner": one.belongs_to} if one.belongs_to else {}),
            "serves": _release(one.active),
            "known good": _release(one.known_good),
            "before it": _release(one.previous),
        }
        if one.last is not None:
            rows["last"] = f"{one.last.id}, {one.last.operation} by {one.last.actor}, {one.last.outcome}"
        if one.locked:
            rows["busy"] = "someone is working on it now"
        if read is not None and read.release and not read.problems:
            rows["verified"] = f"{read.files} files, {read.size_bytes / 1e6:,.1f} MB, byte for byte what was deployed"
        lines += [f"  {name:<10} {printable(text)}" for name, text in rows.items()]
        lines += [f"  problem    {printable(problem)}" for problem in (*one.problems, *(read.problems if read else ()))]
    if lines:  # at once: of a thousand targets, a line at a time takes a second
        console.print("\n".join(lines), markup=False, soft_wrap=True)
    if found and not any(read for _, read in found):
        console.print("looked at: journals, links, releases; not at their bytes (`--verify` does)")


def _release(release: Release | None) -> str:
    return f"{release.model_version}, release {short(release.digest)}" if release else "nothing"
