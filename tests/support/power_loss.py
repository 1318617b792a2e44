"""What a disk holds after the power went: every synced change, and any choice of the others.

What belongs here: recording what a deployer does to its target, and replaying the disk as it may be after a loss at
any point. What does not: what must hold then; that is in `tests/edge_deploy`.

The model is harsher than the file systems in use. A file's bytes are safe once the file was fsynced after they were
written; a name is safe once its folder was. A rename is one step, safe once both folders were synced. What is not safe
may be there, be missing, be there as zeros or be there in half, each independently of the others and of their order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.release.disk import Fd

Node = int


class Fate(StrEnum):
    """What becomes of a change that was not synced."""

    KEPT = "kept"
    LOST = "lost"
    ZEROED = "zeroed"
    HALVED = "halved"


@dataclass(frozen=True)
class Event:
    """One change: what it is, and the files and folders whose fsync makes it safe."""

    kind: str
    safe_with: tuple[Node, ...]
    details: tuple[Any, ...] = ()

    @property
    def is_content(self) -> bool:
        """Whether it changes a file's bytes rather than a folder's names."""
        return self.kind in {"write", "truncate"}


@dataclass
class Tree:
    """Folders, files and links by node; node 0 is the target."""

    folders: dict[Node, dict[str, Node]] = field(default_factory=dict)
    files: dict[Node, bytearray] = field(default_factory=dict)
    links: dict[Node, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Tree:
        """What lies in a folder."""
        tree = cls()
        tree._add(path)
        return tree

    def _add(self, path: Path) -> Node:
        node = len(self.folders) + len(self.files) + len(self.links)
        if path.is_symlink():
            self.links[node] = str(path.readlink())
        elif path.is_file():
            self.files[node] = bytearray(path.read_bytes())
        else:
            self.folders[node] = {}
            for entry in sorted(path.iterdir()):
                self.folders[node][entry.name] = self._add(entry)
        return node

    def copy(self) -> Tree:
        """An independent copy."""
        return Tree(
            {node: dict(names) for node, names in self.folders.items()},
            {node: bytearray(raw) for node, raw in self.files.items()},
            dict(self.links),
        )

    def put_down(self, path: Path, node: Node = 0) -> None:
        """Write the tree to an absent path."""
        if node in self.links:
            path.symlink_to(self.links[node])
        elif node in self.files:
            path.write_bytes(self.files[node])
        else:
            path.mkdir()
            for name, below in self.folders[node].items():
                self.put_down(path / name, below)


class RecordingOps(FileOps):
    """The real disk; keeps a record of every change to one target, and of what was synced when."""

    def __init__(self, target: Path) -> None:
        self.initial = Tree.of(target)
        self.events: list[Event] = []
        self._target = target
        self._now = self.initial.copy()
        self._open: dict[Fd, Node] = {}
        self._next = len(self.initial.folders) + len(self.initial.files) + len(self.initial.links)

    def open_folder(self, path: str | Path, parent: Fd | None = None) -> Fd:
        handle = super().open_folder(path, parent)
        if parent is None and Path(path) == self._target:
            self._open[handle] = 0
        elif parent in self._open:
            of = self._open[parent]
            self._open[handle] = of if path == "." else self._now.folders[of][str(path)]
        return handle

    def open_read(self, name: str, parent: Fd) -> Fd:
        handle = super().open_read(name, parent)
        if parent in self._open:
            self._open[handle] = self._now.folders[self._open[parent]][name]
        return handle

    def open_append(self, name: str, parent: Fd) -> Fd:
        is_new = name not in self._now.folders[self._open[parent]]
        handle = super().open_append(name, parent)
        self._open[handle] = self._new_file(name, parent) if is_new else self._child(name, parent)
        return handle

    def create(self, name: str, parent: Fd) -> Fd:
        handle = super().create(name, parent)
        self._open[handle] = self._new_file(name, parent)
        return handle

    def close(self, handle: Fd) -> None:
        super().close(handle)
        self._open.pop(handle, None)

    def write(self, handle: Fd, data: bytes | memoryview) -> int:
        count = super().write(handle, data)
        self._written(handle, bytes(data[:count]))
        return count

    def truncate(self, handle: Fd, size: int) -> None:
        super().truncate(handle, size)
        self._do(Event("truncate", (self._open[handle],), (self._open[handle], size)))

    def allocate(self, handle: Fd, size: int) -> None:
        super().allocate(handle, size)
        self._written(handle, b"\0" * size)

    def fsync(self, handle: Fd) -> None:
        super().fsync(handle)
        if handle in self._open:
            self.events.append(Event("sync", (), (self._open[handle],)))

    def mkdir(self, name: str, parent: Fd) -> None:
        super().mkdir(name, parent)
        node = self._fresh()
        self.initial.folders[node] = {}
        self._now.folders[node] = {}
        self._do(Event("enter", (self._open[parent],), (self._open[parent], name, node)))

    def symlink(self, to: str, name: str, parent: Fd) -> None:
        super().symlink(to, name, parent)
        node = self._fresh()
        self.initial.links[node] = to
        self._now.links[node] = to
        self._do(Event("enter", (self._open[parent],), (self._open[parent], name, node)))

    def rename(self, name: str, parent: Fd, new_name: str, new_parent: Fd) -> None:
        super().rename(name, parent, new_name, new_parent)
        places = (self._open[parent], self._open[new_parent])
        self._do(Event("rename", places, (places[0], name, places[1], new_name)))

    def exchange(self, name: str, parent: Fd, other: str, other_parent: Fd) -> None:
        super().exchange(name, parent, other, other_parent)
        places = (self._open[parent], self._open[other_parent])
        self._do(Event("exchange", places, (places[0], name, places[1], other)))

    def unlink(self, name: str, parent: Fd) -> None:
        super().unlink(name, parent)
        self._do(Event("leave", (self._open[parent],), (self._open[parent], name)))

    def rmdir(self, name: str, parent: Fd) -> None:
        super().rmdir(name, parent)
        self._do(Event("leave", (self._open[parent],), (self._open[parent], name)))

    def _fresh(self) -> Node:
        self._next += 1
        return self._next

    def _child(self, name: str, parent: Fd) -> Node:
        return self._now.folders[self._open[parent]][name]

    def _new_file(self, name: str, parent: Fd) -> Node:
        node = self._fresh()
        self.initial.files[node] = bytearray()
        self._now.files[node] = bytearray()
        self._do(Event("enter", (self._open[parent],), (self._open[parent], name, node)))
        return node

    def _written(self, handle: Fd, data: bytes) -> None:
        node = self._open[handle]
        self._do(Event("write", (node,), (node, len(self._now.files[node]), data)))

    def _do(self, event: Event) -> None:
        self.events.append(event)
        apply(self._now, event, Fate.KEPT)

    @property
    def now(self) -> Tree:
        """What the target holds when nothing is lost."""
        return self._now


def apply(tree: Tree, event: Event, fate: Fate) -> None:
    """Make the change, as far as its fate and what the tree holds allow."""
    if fate is Fate.LOST or event.kind == "sync":
        return
    match event.kind, event.details:
        case "write", (node, offset, data):
            kept = {Fate.ZEROED: b"\0" * len(data), Fate.HALVED: data[: len(data) // 2]}.get(fate, data)
            raw = tree.files[node]
            raw.extend(b"\0" * (offset - len(raw)))
            raw[offset : offset + len(kept)] = kept
        case "truncate", (node, size):
            del tree.files[node][size:]
        case "enter", (folder, name, node):
            tree.folders[folder].setdefault(name, node)
        case "leave", (folder, name):
            tree.folders[folder].pop(name, None)
        case "rename", (old, name, new, new_name) if name in tree.folders[old]:
            tree.folders[new][new_name] = tree.folders[old].pop(name)
        case "exchange", (one, name, other, other_name) if (
            name in tree.folders[one] and other_name in tree.folders[other]
        ):
            here, there = tree.folders[one], tree.folders[other]
            here[name], there[other_name] = there[other_name], here[name]


Choose = Callable[[Event], Fate]


def after_power_loss(recorded: RecordingOps, at: int, choose: Choose) -> Tree:
    """What the target holds when the power went after `at` events; `choose` decides on what was not synced."""
    synced_at = {e.details[0]: n for n, e in enumerate(recorded.events[:at]) if e.kind == "sync"}
    tree = recorded.initial.copy()
    for number, event in enumerate(recorded.events[:at]):
        if event.kind == "sync":
            continue
        is_safe = all(synced_at.get(node, -1) > number for node in event.safe_with)
        apply(tree, event, Fate.KEPT if is_safe else choose(event))
    return tree


def lose_everything(_: Event) -> Fate:
    """Nothing unsynced survives."""
    return Fate.LOST


def keep_everything(_: Event) -> Fate:
    """All of it survives, as after a mere SIGKILL."""
    return Fate.KEPT


def keep_names_only(event: Event) -> Fate:
    """Files appear, their bytes do not."""
    return Fate.LOST if event.is_content else Fate.KEPT


def keep_names_and_sizes(event: Event) -> Fate:
    """Files appear in their size, full of zeros."""
    return Fate.ZEROED if event.kind == "write" else Fate.KEPT


def by_chance(seed: int) -> Choose:
    """Each change has a fate of its own."""
    chance = random.Random(seed)
    return lambda event: chance.choice(list(Fate) if event.kind == "write" else [Fate.KEPT, Fate.LOST])
