"""A YAML file of settings or rules, read with suspicion: one mapping, every key once, no aliases, lines for errors.

    document = parse_yaml(text, "seed.yaml", holds="name, version, summary, criteria, …")
    document.content["name"], document.line(("criteria", 0, "weight"))

What belongs here: reading such a file, and finding the line of a value. What does not: what the values mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from milton_assets.vocabulary.errors import BadInput

MAX_YAML_BYTES = 256 * 1024
MAX_DEPTH = 100
"""Such a file is a page or two of text; anything larger is something else."""


class BadYaml(BadInput):
    """A file that is no YAML as it is read here; the message names the line."""


@dataclass(frozen=True)
class YamlDocument:
    """What a file holds. `source` names it in errors."""

    source: str
    content: dict[Any, Any]
    root: yaml.Node | None

    def line(self, location: Sequence[int | str]) -> int:
        """The line of the deepest value on the way to `location`, from 1; of a missing key, that of its parent."""
        node = self.root
        for part in location:
            below = _child(node, part)
            if below is None:
                break
            node = below
        return 1 if node is None else int(node.start_mark.line) + 1


def read_yaml(path: Path, *, holds: str, empty: bool = False) -> YamlDocument:
    """The document in a file. Raises `BadYaml` for one that cannot be read, is too large or does not hold.

    `holds` says what such a file holds; `empty` admits one that has nothing but comments.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadYaml(f"{path} is no file", expected=f"a YAML file with {holds}")
        with path.open("rb") as stream:
            raw = stream.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise BadYaml(f"{path} cannot be read: {error.strerror}", expected=f"a YAML file with {holds}") from error
    if len(raw) > MAX_YAML_BYTES:
        raise BadYaml(f"{path} is larger than {MAX_YAML_BYTES} bytes", expected=f"a YAML file with {holds}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadYaml(f"{path} is not UTF-8 (byte {error.start})", expected="a YAML file in UTF-8") from error
    return parse_yaml(text, str(path), holds=holds, empty=empty)


def parse_yaml(text: str, source: str, *, holds: str, empty: bool = False) -> YamlDocument:
    """The document in `text`. Raises `BadYaml` with the line."""
    try:
        # Before anything is composed: a few lines of aliases can stand for gigabytes, and of brackets for minutes.
        _refuse_bombs(text, source)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None and empty:
            return YamlDocument(source, {}, None)
        if not isinstance(root, yaml.MappingNode):
            raise BadYaml(f"{source} holds no mapping", expected=holds)
        _refuse_repeated_keys(root, source)
        content = yaml.SafeLoader("").construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadYaml(f"{source}, line {line}: {error.problem}", expected="valid YAML") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadYaml(f"{source} cannot be read as YAML: {error}", expected="valid YAML") from error
    return YamlDocument(source, content, root)


def _refuse_bombs(text: str, source: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise BadYaml(f"{source} uses a YAML alias", expected="every value written out")
        if depth > MAX_DEPTH:
            raise BadYaml(f"{source} is nested deeper than {MAX_DEPTH} levels", expected="a few levels")


def _refuse_repeated_keys(root: yaml.Node, source: str) -> None:
    for node in _nodes(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise BadYaml(
                    f"{source}, line {key.start_mark.line + 1}: {key.value} is given twice", expected="each key once"
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


def _child(node: yaml.Node | None, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None
