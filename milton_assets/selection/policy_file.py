"""Policies from YAML files, with errors that name the line.

    policy = load_policy("seed")                 # one that is shipped
    policy = load_policy("./ours/strict.yaml")   # one of yours

What belongs here: finding, reading and validating a policy file. What does not: what a policy means (`policy`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from milton_assets.selection.policy import Policy
from milton_assets.vocabulary.errors import BadInput

MAX_POLICY_BYTES = 256 * 1024
"""A policy is a page of text; anything larger is something else."""

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
                expected=f"one of {list(shipped_policies())}, or the path of a .yaml file",
            )
        return parse_policy((_SHIPPED / f"{text}.yaml").read_text("utf-8"), f"{text}.yaml")
    path = Path(name_or_path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise BadPolicy(
            f"the policy {text} cannot be read: {error.strerror}",
            expected=f"a YAML file, or one of the shipped {list(shipped_policies())}",
        ) from error
    if len(raw) > MAX_POLICY_BYTES:
        raise BadPolicy(f"{text} is larger than {MAX_POLICY_BYTES} bytes", expected="a policy file")
    try:
        return parse_policy(raw.decode("utf-8"), text)
    except UnicodeDecodeError as error:
        raise BadPolicy(f"{text} is not UTF-8 (byte {error.start})", expected="a YAML file in UTF-8") from error


def parse_policy(text: str, source: str) -> Policy:
    """The policy in `text`; `source` names it in errors. Raises `BadPolicy`."""
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise BadPolicy(f"{source} uses a YAML alias", expected="every value written out")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise BadPolicy(f"{source} holds no mapping", expected="name, version, summary, criteria, …")
        _refuse_repeated_keys(root, source)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadPolicy(f"{source}, line {line}: {error.problem}", expected="valid YAML") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadPolicy(f"{source} cannot be read as YAML: {error}", expected="valid YAML") from error
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        problems = [f"line {_line(root, e['loc'])}: {_where(e['loc'])}{_plain(e)}" for e in error.errors()]
        raise BadPolicy(
            f"{source} is no valid policy: {'; '.join(problems)}",
            remedy="correct the lines named; docs/selection.md lists every field",
        ) from error


def _refuse_repeated_keys(root: yaml.Node, source: str) -> None:
    for node in _nodes(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise BadPolicy(
                    f"{source}, line {key.start_mark.line + 1}: {key.value} is given twice",
                    expected="each key once",
                )
            seen.add(str(key.value))


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, yaml.MappingNode):
            pending += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            pending += node.value


def _line(root: yaml.Node, location: Sequence[int | str]) -> int:
    """The line of the deepest node on the way to `location`; for a missing key, that of its parent."""
    node = root
    for part in location:
        below = _child(node, part)
        if below is None:
            break
        node = below
    return int(node.start_mark.line) + 1


def _child(node: yaml.Node, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None


def _where(location: Sequence[int | str]) -> str:
    return f"{'.'.join(map(str, location))}: " if location else ""


def _plain(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in {"missing", "value_error"}:
        return message
    return f"{message} (found {error['input']!r:.80})"
