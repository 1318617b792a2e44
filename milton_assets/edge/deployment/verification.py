"""Whether what a target has in service is still, byte for byte, what was deployed.

What belongs here: verifying the release in service, without the target's lock. What does not: the check of a folder
(`edge.release.verify_release`), looking at links and journal alone (`report`), and reading a little at a time
(`edge.bundle.patrol`).
"""

from __future__ import annotations

from milton_assets.edge.deployment.attempt import check_deployed_manifest
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.layout import RELEASES
from milton_assets.edge.deployment.report import Verification
from milton_assets.edge.deployment.session import Clock, read_target
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.release import Folder, ReleaseDamaged, read_documents, verify_release
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, silent


@disk_errors_explained()
def verify_in_service(
    target: EdgeTarget, *, now: Clock, ops: FileOps | None = None, on_progress: OnProgress = silent
) -> Verification:
    """Read the release in service once, from the target's disk, and hold it against manifest, signature and journal.

    A file with a second name (hard link) is a problem, as at its deployment: it can be changed under that name. Raises
    `NeverDeployed`, `JournalDamaged`, `DiskFailed`.
    """
    ops = ops or FileOps()
    state = read_target(target, ops).state
    if state.active is None:
        return Verification(target=target.name, release=None, verified_at=now(), files=0, size_bytes=0, problems=())
    path = target.path / RELEASES / state.active
    try:
        with Folder(path, ops) as folder:
            check_deployed_manifest(path, read_documents(folder), state.releases[state.active])
            report = verify_release(folder, from_disk=True, one_name_each=True, on_progress=on_progress)
    except (BadInput, ReleaseDamaged) as error:
        files, size_bytes, problems = 0, 0, [error.problem]
    else:
        files, size_bytes = report.files_checked, report.bytes_checked
        problems = [str(problem) for problem in report.problems]
    return Verification(
        target=target.name,
        release=state.active,
        verified_at=now(),
        files=files,
        size_bytes=size_bytes,
        problems=tuple(problems),
    )
