"""Which edge targets there are, and how a target's URL finds what speaks to it.

    targets.named("local")                       # in the state folder
    targets.resolve(path=Path("/mnt/device"))    # any folder

What belongs here: names, addresses, and the table of schemes. What does not: what lies in a target and how it changes.

Another way to reach targets is a module beside this one, with a function like `local_target`, and a line in `SCHEMES`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from milton_assets.edge.deployment import Deployment
from milton_assets.edge.deployment.history import read_mirror
from milton_assets.fleet.local import LocalMeans, LocalTarget
from milton_assets.fleet.marks import mark_file, read_mark
from milton_assets.fleet.target import Target
from milton_assets.vocabulary.edge_target import DEFAULT_CLASS, DEFAULT_TARGET, EdgeTarget, mirror_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import entries
from milton_assets.vocabulary.keys import SLUG, check_key
from milton_assets.vocabulary.state import StateDir

_NO_SLUG = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_STEM = 40


@dataclass(frozen=True)
class Address:
    """A target's name, its URL, and the state folder from which it is spoken to.

    Raises `BadInput` for a name that is no slug.
    """

    name: str
    url: str
    state: StateDir

    def __post_init__(self) -> None:
        check_key(self.name, "target name")

    @property
    def scheme(self) -> str:
        """What finds the target's implementation."""
        return urlsplit(self.url).scheme


Scheme = Callable[[Address, LocalMeans], Target]
"""Makes what speaks to the target at an address. Raises `BadInput` for an address that is none of its kind."""


def local_target(address: Address, means: LocalMeans) -> LocalTarget:
    """The target at a `file:` URL. Raises `BadInput` for one that names another host or no absolute path."""
    parts = urlsplit(address.url)
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment or not path.startswith("/"):
        raise BadInput(
            f"the target {address.name} has the URL {address.url!r:.300}", expected="file:///an/absolute/folder"
        )
    state = address.state
    return LocalTarget(EdgeTarget(address.name, Path(path), mirror_file(state, address.name), state), state, means)


SCHEMES: dict[str, Scheme] = {"file": local_target}
"""By a URL's scheme, what speaks to the targets there."""


def url_of(text: str, name: str) -> str:
    """The URL that `text`, an absolute path or a URL, stands for. Raises `BadInput` naming the target for neither."""
    if text.startswith("/"):
        return Path(text).as_uri()
    if re.match(r"[a-z][a-z0-9+.-]*:", text):
        return text
    raise BadInput(
        f"the target {name} is said to be at {text!r:.300}",
        expected="an absolute folder, or a URL such as file:///srv/edge",
        remedy="correct the target's place where it is named",
    )


@dataclass(frozen=True)
class Targets:
    """The targets of one state folder. `elsewhere` gives named targets a path or a URL outside it, `classes` their
    device classes; any other target is of the class `DEFAULT_CLASS`."""

    state: StateDir
    means: LocalMeans
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)
    schemes: Mapping[str, Scheme] = field(default_factory=lambda: SCHEMES)

    def named(self, name: str) -> Target:
        """The target of that name: where `elsewhere` or its mark says it lies, else in the state folder.

        Raises `BadInput` for a name that is no slug, and for a URL whose scheme nobody speaks.
        """
        check_key(name, "target name")
        if name in self.elsewhere:
            return self._open(name, url_of(self.elsewhere[name], name))
        mark = read_mark(self.state, name)
        return self._open(name, (self.state.place(mark.place) if mark else self.state.deployments / name).as_uri())

    def at(self, path: Path) -> Target:
        """The target at a custom path. It is named for the path, and found by that name from then on."""
        path = path.expanduser().absolute().resolve()
        if path.parent == self.state.deployments.resolve() and SLUG.fullmatch(path.name):
            return self.named(path.name)
        for name, place in self.elsewhere.items():
            if Path(unquote(urlsplit(place).path)).resolve() == path and urlsplit(place).scheme in {"", "file"}:
                return self.named(name)
        for name in self.names():
            if (mark := read_mark(self.state, name)) and self.state.place(mark.place).resolve() == path:
                return self.named(name)
        stem = _NO_SLUG.sub("-", path.name).strip("-_")[:_MAX_STEM] or "root"
        name = f"path-{stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        return self._open(name, path.as_uri())

    def resolve(self, *, name: str | None = None, path: Path | None = None) -> Target:
        """The target that a user means: by name, by path, or the default. Raises `BadInput` when both are given."""
        if name is not None and path is not None:
            raise BadInput("both a target's name and a path were given", expected="--target NAME or --target-path DIR")
        return self.at(path) if path is not None else self.named(name or DEFAULT_TARGET)

    def all(self) -> tuple[Target, ...]:
        """Every target that was ever deployed to and every named one, by name."""
        return tuple(self.named(name) for name in self.names())

    def names(self) -> tuple[str, ...]:
        """The names of `all`, sorted."""
        here = {p.name for p in entries(self.state.deployments) if p.is_dir() and SLUG.fullmatch(p.name)}
        mirrored = {p.stem for p in entries(self.state.deployment_history) if p.suffix == ".jsonl"}
        marked = {p.stem for p in entries(self.state.targets) if p.suffix == ".json"}
        known = {name for name in mirrored | marked if SLUG.fullmatch(name)}
        return tuple(sorted(here | known | set(self.elsewhere)))

    def mirrored(self, name: str) -> tuple[Deployment, ...]:
        """The finished deployments of that target that this state folder keeps a copy of, oldest first."""
        place = EdgeTarget(name, self.state.deployments / name, mirror_file(self.state, name), self.state)
        return read_mirror(place)

    def device_class(self, name: str) -> str:
        """The class of devices that the target is one of."""
        return self.classes.get(name, DEFAULT_CLASS)

    def forget(self, name: str) -> None:
        """Forget where that target was; its history stays."""
        mark_file(self.state, check_key(name, "target name")).unlink(missing_ok=True)

    def _open(self, name: str, url: str) -> Target:
        address = Address(name, url, self.state)
        if (scheme := self.schemes.get(address.scheme)) is None:
            raise BadInput(
                f"the target {name} has the URL {url!r:.300}, and nothing here speaks {address.scheme!r:.40}",
                expected=f"a folder, or a URL of {' or '.join(f'{known}:' for known in sorted(self.schemes))}",
                remedy="name a folder that this machine can reach, e.g. one where the device's disk is mounted",
            )
        return scheme(address, self.means)
