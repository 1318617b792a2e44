"""The lines that a device's shell is given: where its agent lies, and how it is started.

What belongs here: these lines, quoted. What does not: carrying them there (`links`), and installing (`installing`).
"""

from __future__ import annotations

import shlex

from milton_assets.vocabulary.keys import check_key

AGENT_HOME = ".local/share/milton/agent"
"""Below the home folder: `versions/<digest>/`, and `current`, a link to one of them."""
AGENT = f"{AGENT_HOME}/current/milton-agent"


def agent_command(name: str, folder: str | None) -> str:
    """The line that starts the agent for the target `name`. Raises `BadInput` for a name that is no slug."""
    where = "" if folder is None else f" --folder {shlex.quote(folder)}"
    # By the name of the home folder: a command that `authorized_keys` forces need not start in it.
    return f'"$HOME"/{AGENT} --target {check_key(name, "target name")}{where} serve'


def authorized_keys_options(name: str, folder: str | None) -> str:
    """What to put before a key in the device's `authorized_keys`, so that it opens nothing but the agent."""
    command = agent_command(name, folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'restrict,command="{command}"'
