"""Policies from YAML files, with errors that name the line.

    policy = load_policy("seed")                 # one that is shipped
    policy = load_policy("./ours/strict.yaml")   # one of yours

What belongs here: finding, reading and validating a policy file. What does not: what a policy means (`policy`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from milton_assets.selection.policy import Criterion, MetricRef, Policy, TieBreak
from milton_assets.vocabulary.errors import BadInput, one_of
from milton_assets.vocabulary.tier_spec import Tiers
from milton_assets.vocabulary.yaml_document import BadYaml, YamlDocument, parse_yaml, read_yaml

_HOLDS = "name, version, summary, criteria, …"
_REMEDY = "correct the file, or name a shipped policy"
_SHIPPED = resources.files("milton_assets.selection") / "policies"


class BadPolicy(BadInput):
    """A policy file that is no policy; the message names the line and what to write there."""


def shipped_policies() -> tuple[str, ...]:
    """Names of the policies that come with the package, sorted."""
    return tuple(sorted(Path(item.name).stem for item in _SHIPPED.iterdir() if item.name.endswith(".yaml")))


def load_policy(name_or_path: str | Path) -> Policy:
    """A shipped policy by its name, or any policy by the path of its YAML file.

    A string without a slash and without a suffix is a name. Raises `BadPolicy` with the file, the line and what
    is wrong there.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and "/" not in text and not text.endswith((".yaml", ".yml")):
        if text not in shipped_policies():
            raise BadPolicy(
                f"there is no shipped policy {text!r}",
                expected=f"{one_of(shipped_policies())}, or the path of a .yaml file",
            )
        return parse_policy((_SHIPPED / f"{text}.yaml").read_text("utf-8"), f"{text}.yaml")
    return _policy(lambda: read_yaml(Path(name_or_path), holds=_HOLDS))


def policy_like(shipped: str, name: str) -> str:
    """The text of a shipped policy, comments and all, as version 1 of a policy called `name`. Raises `BadPolicy`."""
    load_policy(shipped)
    if shipped not in shipped_policies():
        raise BadPolicy(f"{shipped} does not ship", expected=one_of(shipped_policies()))
    lines = (_SHIPPED / f"{shipped}.yaml").read_text("utf-8").splitlines(keepends=True)
    told = {"name:": f"name: {name}\n", "version:": "version: 1\n"}
    head = f"# Begun from the shipped policy {shipped}.\n"
    return head + "".join(told.get(line.split(" ")[0], line) for line in lines)


def parse_policy(text: str, source: str) -> Policy:
    """The policy in `text`; `source` names it in errors. Raises `BadPolicy`."""
    return _policy(lambda: parse_yaml(text, source, holds=_HOLDS))


def _policy(read: Callable[[], YamlDocument]) -> Policy:
    try:
        document = read()
    except BadYaml as error:
        raise BadPolicy(error.problem, expected=error.expected, remedy=_REMEDY) from error
    try:
        return Policy.model_validate(document.content)
    except ValidationError as error:
        problems = [f"line {document.line(e['loc'])}: {_where(e['loc'])}{_plain(e)}" for e in error.errors()]
        raise BadPolicy(
            f"{document.source} is no valid policy: {'; '.join(problems)}",
            remedy="correct the lines named; docs/selection.md lists every field",
        ) from error


def _where(location: Sequence[int | str]) -> str:
    return f"{'.'.join(map(str, location))}: " if location else ""


def _plain(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in {"missing", "value_error"}:
        return message
    return f"{message} (found {error['input']!r:.80})"


def check_metrics(policy: Policy, tiers: Tiers) -> Policy:
    """The policy, when every metric that it names is one of a tier's, and better the way that the tier says.

    Raises `BadPolicy` naming everything that is not so: to be asked before anything is measured.
    """
    problems = [problem for reference in policy.metrics() if (problem := _unmeasured(reference, tiers))]
    directed: list[Criterion | TieBreak] = [*policy.criteria, *policy.tie_breaks]
    for weighed in directed:
        spec = tiers.get(weighed.tier)
        stated = spec.find(weighed.metric) if spec is not None else None
        if stated is not None and stated.better not in {None, weighed.direction}:
            problems.append(f"{weighed.metric} is said to be better {weighed.direction}, and is better {stated.better}")
    if problems:
        raise BadPolicy(
            f"policy {policy.name} does not fit the tiers: {'; '.join(dict.fromkeys(problems))}",
            expected="metrics that the installed tiers measure",
            remedy="correct the policy, or install the package that brings the tier",
        )
    return policy


def _unmeasured(reference: MetricRef, tiers: Tiers) -> str | None:
    spec = tiers.get(reference.tier)
    if spec is None:
        return f"{reference.metric} is of tier {reference.tier}, and installed are {list(tiers)}"
    if spec.find(reference.metric) is not None:
        return None
    names = [metric.name for metric in spec.metrics]
    near = get_close_matches(reference.metric, names, n=3)
    there = f"near are {near}" if near else f"it has {names}"
    return f"tier {reference.tier} has no metric {reference.metric!r}; {there}"
