"""A candidate's reference: what it is, whether it can be asked here, and opening it.

    reference = reference_of(entry, artefact, files, asking)
    forcing = forcing_of(artefact, asking)

What belongs here: from a registry entry to somebody who can be asked, for the graph and the command line alike. What
does not: what is asked (`milton_assets.tiers.fidelity`), serving (`resources.servers`), and keeping answers
(`resources.predictions`).

A candidate's reference is what its entry names as `reference`, another entry's version or the path of a GGUF file; else
its base model, where that is one of the two. It is served by the same server with the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from milton_assets.usecases.weights import bring
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.forcing import ReferenceNotToBeHad, TeacherForcing
from milton_assets.vocabulary.registry import (
    NO_REFERENCE,
    Artefact,
    RegistryEntry,
    RegistryStore,
    RegistryUnreadable,
)
from milton_assets.vocabulary.server import Launcher, RunningServer
from milton_assets.vocabulary.tier_spec import NoReference, Reference
from resources.evidence_store import EvidenceStore
from resources.file_facts import FactsReader
from resources.predictions import KeptExpectations, key_of
from resources.registries.artefacts import ArtefactReader
from resources.servers.identity import Bring, nothing, verified_serving
from resources.servers.memory import why_no_room


@dataclass(frozen=True)
class Asking:
    """How models are asked: on `served`, and references on a server that `launcher` starts, or not if it is None.

    Answers are kept in `store`, unless it is None (a private set's are not); `recalls` is whether those of the
    candidate are believed that were kept before. `environment` is what servers are started in.
    """

    served: RunningServer
    launcher: Launcher | None
    store: EvidenceStore | None
    environment: Mapping[str, str]
    recalls: bool = True


def forcing_of(artefact: Artefact, asking: Asking) -> TeacherForcing | None:
    """The candidate itself, to be asked what it expects; None where its server does not tell."""
    forcing = asking.served.endpoint.forcing
    if forcing is None:
        return None
    return _kept(artefact.sha256, asking, lambda: nullcontext(forcing), recalls=asking.recalls) or forcing


def reference_of(
    entry: RegistryEntry, artefact: Artefact, registry: RegistryStore, files: ArtefactReader, asking: Asking
) -> Reference | NoReference:
    """The reference of an entry's `artefact`, or why there is none.

    `files` finds those that are named by a path. Raises `RegistryUnreadable`.
    """
    named = entry.reference
    if named == NO_REFERENCE:
        return NoReference(f"{entry.version} is registered as having no reference")
    try:
        found = _find(named or entry.base_model, entry, artefact, registry, files)
    except RegistryUnreadable:
        raise
    except (BadInput, OSError) as error:
        return NoReference(f"its reference {named or entry.base_model!r:.200} does not hold: {error}")
    if found is None and named is not None:
        return NoReference(
            f"its reference {named!r:.200} is neither a registered version nor a GGUF file that artefacts may lie at"
        )
    if found is None:
        return NoReference(
            f"{entry.version} names no reference, and its base model {entry.base_model!r:.200} is neither a registered "
            "version nor a file here"
        )
    name, reference, brings = found
    if reference.sha256 == artefact.sha256:
        return NoReference(f"{name}, its reference, has the same weights")
    if (unlike := _unlike(artefact, reference)) is not None:
        return NoReference(f"{name}, its reference, cannot be compared with: {unlike}")
    return Reference(name, reference.sha256, partial(_opened, reference, name, asking, brings))


def reference_file(path: Path, facts: FactsReader, asking: Asking) -> Reference:
    """The GGUF at `path` as a reference. Raises `BadInput` for what is none, `OSError`."""
    reader = ArtefactReader(path.parent, (path.parent,), facts)
    artefact = reader.gguf(path.name)
    return Reference(path.name, artefact.sha256, partial(_opened, artefact, path.name, asking, nothing))


def _find(
    named: str, entry: RegistryEntry, artefact: Artefact, registry: RegistryStore, files: ArtefactReader
) -> tuple[str, Artefact, Bring] | None:
    """The name, the artefact, and what has its files here; None where `named` is nothing that we know."""
    if named != entry.version and named in registry.registered():
        other = registry.judged(named).artefact(artefact.kind)
        return named, other, partial(bring, registry, named, other)
    if named.lower().endswith(".gguf"):
        return Path(named).name, files.gguf(named), nothing
    return None


def _unlike(one: Artefact, other: Artefact) -> str | None:
    if one.tokenizer_sha256 and other.tokenizer_sha256 and one.tokenizer_sha256 != other.tokenizer_sha256:
        return "the tokenizers differ, and probabilities of different tokens cannot be compared"
    return None


@contextmanager
def _opened(reference: Artefact, name: str, asking: Asking, brings: Bring) -> Iterator[TeacherForcing]:
    """The reference, to be asked; it is served only for what is not kept of it."""
    serve = partial(_serve, reference, name, asking, brings)
    kept = _kept(reference.sha256, asking, serve, recalls=True)
    with kept if kept is not None else serve() as forcing:
        yield forcing


def _kept(
    sha256: str,
    asking: Asking,
    opened: Callable[[], AbstractContextManager[TeacherForcing]],
    *,
    recalls: bool,
) -> KeptExpectations | None:
    key = key_of(sha256, asking.served.fingerprint, asking.environment)
    return None if key is None or asking.store is None else KeptExpectations(asking.store, key, opened, recalls=recalls)


@contextmanager
def _serve(reference: Artefact, name: str, asking: Asking, brings: Bring) -> Iterator[TeacherForcing]:
    if asking.launcher is None:
        raise ReferenceNotToBeHad(
            f"{name}, its reference, cannot be served: the server is one that somebody else runs",
            remedy="measure fidelity once with a server that is started per candidate (MILTON_SERVER=llama.cpp)",
        )
    if (why := why_no_room(reference.size_bytes)) is not None:
        raise ReferenceNotToBeHad(f"{name}, its reference, {why}")
    with verified_serving(asking.launcher, Path(reference.path), name, reference.sha256, bring=brings) as served:
        if served.endpoint.forcing is None:
            raise MiltonError(f"{served.fingerprint.name}, which serves {name}, does not tell what it expects")
        yield served.endpoint.forcing
