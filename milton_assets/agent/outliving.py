"""The words by which a process outlives the login that starts it.

What belongs here: finding out whether this user's service manager can keep it. What does not: the process (`attempts`).

A session of its own (`setsid`) is enough where logins leave processes behind. A login manager with
`KillUserProcesses=yes`, which is systemd's own default (Debian sets another), ends whatever is in a login's scope when
the login ends, lingering or not: `logind.conf(5)`. A scope of the user's service manager is no part of the login, and
stays as long as the manager does: for ever with `loginctl enable-linger`, else for seconds after the last logout.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

_LINGERING = Path("/var/lib/systemd/linger")
_SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--collect", "--")
_WITHIN_S = 10.0


def outliving() -> tuple[Sequence[str], str | None]:
    """The words to put before a command, and why there are none where there should be some.

    None are needed where the user does not linger: the manager would end with the login.
    """
    user = os.getuid()
    if not (_LINGERING / pwd.getpwuid(user).pw_name).exists():
        return (), None
    # A login without PAM is not told where its manager is.
    scope = ("env", f"XDG_RUNTIME_DIR=/run/user/{user}", *_SCOPE)
    try:
        tried = subprocess.run([*scope, "true"], capture_output=True, text=True, timeout=_WITHIN_S, check=False)
        why_not = tried.stderr.strip() if tried.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        why_not = str(error)
    if why_not is not None:
        return (), f"this user's service manager does not take it: {why_not}"
    return scope, None
