"""Whether what a target holds is still, byte for byte, what was deployed, and what it says of itself.

What belongs here: verifying a release of a target, by default the one in service, and its documents, both without the
target's lock. What does not: the check of a folder (`edge.release.verify_release`), looking at links and journal alone
(`report`), and reading a little at a time (`edge.bundle.patrol`).
"""

from __future__ import annotations

from milton_assets.edge.deployment.attempt import check_deployed_manifest
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.layout import RELEASES
from milton_assets.edge.deployment.report import Verification
from milton_assets.edge.deployment.session import Clock, read_target
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.release import Folder, ReleaseDamaged, read_documents, verify_release
from milton_assets.edge.release.documents import CHAIN_DOCUMENTS, read_document
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, silent


@disk_errors_explained()
def verify_deployed(
    target: EdgeTarget,
    *,
    now: Clock,
    release: str | None = None,
    ops: FileOps | None = None,
    on_progress: OnProgress = silent,
) -> Verification:
    """Read a release of the target once, from its disk, and hold it against manifest, signature and journal.

    `release` is its digest, None the one in service. A file with a second name (hard link) is a problem, as at its
    deployment: it can be changed under that name. Raises `NeverDeployed`, `JournalDamaged`, `DiskFailed`.
    """
    ops = ops or FileOps()
    state = read_target(target, ops).state
    wanted = release or state.active
    if wanted is None:
        return Verification(target=target.name, release=None, verified_at=now(), files=0, size_bytes=0, problems=())
    path = target.path / RELEASES / wanted
    files, size_bytes, problems = 0, 0, []
    try:
        if wanted not in state.releases:
            raise BadInput(f"{path} is no release that the target's journal knows")
        with Folder(path, ops) as folder:
            documents = read_documents(folder)
            try:
                check_deployed_manifest(path, documents, state.releases[wanted])
            except ReleaseDamaged as error:
                problems.append(error.problem)
            report = verify_release(
                folder, from_disk=True, one_name_each=True, known_by=documents, on_progress=on_progress
            )
    except BadInput as error:
        problems.append(error.problem)
    else:
        files, size_bytes = report.files_checked, report.bytes_checked
        problems += [str(problem) for problem in report.problems]
    return Verification(
        target=target.name,
        release=wanted,
        verified_at=now(),
        files=files,
        size_bytes=size_bytes,
        problems=tuple(problems),
    )


@disk_errors_explained()
def deployed_documents(target: EdgeTarget, release: str, *, ops: FileOps | None = None) -> dict[str, bytes]:
    """The bytes of that release's `CHAIN_DOCUMENTS`, by name; those that are missing, too long or no files are left
    out, and empty where the release is not there. Nothing is checked: `verify_deployed` does that."""
    found: dict[str, bytes] = {}
    try:
        with Folder(target.path / RELEASES / release, ops or FileOps()) as folder:
            for name in CHAIN_DOCUMENTS:
                try:
                    found[name] = read_document(folder, name)
                except BadInput:
                    continue  # told by the verification
    except BadInput:
        return {}
    return found
