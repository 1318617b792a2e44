"""What is wrong with a target while nothing happens to it: what it serves is no longer believed, nobody is heard.

    standing_problems(folder, now)

What belongs here: these sentences, from the target's policy, key list and links. What does not: what happened while it
served (`edge.serving`), and what disk and journal disagree on (`report`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from milton_assets.edge.deployment.admission import policy_in, trust_by
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.heard import silence
from milton_assets.edge.deployment.layout import RELEASES, Link, read_link
from milton_assets.edge.deployment.trust import Trust
from milton_assets.edge.release import Folder, read_documents
from milton_assets.edge.release.disk import opened
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import MiltonError


def standing_problems(folder: Path, now: datetime) -> tuple[str, ...]:
    """A sentence each; none for a target without a policy, or one that is not there."""
    try:
        policy = policy_in(folder)
        if policy is None:
            return ()
        found = list(_doubted(folder, trust_by(policy, folder)))
    except (MiltonError, OSError) as error:
        return (str(error),)
    if said := silence(folder, now, limit_hours=policy.max_silence_hours):
        found.append(said)
    return tuple(found)


def _doubted(folder: Path, trust: Trust) -> Iterator[str]:
    """The releases that the device serves, or would go back to, and whose signatures count no more."""
    ops = FileOps()
    with opened(ops, ops.open_folder(folder)) as handle:
        held = {"in service": read_link(Link.CURRENT, handle), "last known good": read_link(Link.KNOWN_GOOD, handle)}
    told: set[str] = set()
    for what, digest in held.items():
        if digest is None or digest in told:
            continue
        told.add(digest)
        try:
            with Folder(folder / RELEASES / digest) as release:
                documents = read_documents(release)
        except (MiltonError, OSError):
            continue  # status and verification tell of a release that cannot be read
        if refusal := trust.refusal(documents.fingerprints()):
            version = documents.manifest.model_version
            yield f"the release {short(digest)} ({version}), {what}, {refusal}; deploy one that the device believes"
