"""Bringing a target the key lists that were made here, whenever it is deployed to.

    bring_keys(target, state, on_progress)

What belongs here: that step. What does not: lists (`edge.bundle.key_lists`), and whether a target takes one
(`edge.deployment.trust`).
"""

from __future__ import annotations

from milton_assets.edge.deployment.trust import NotBelieved
from milton_assets.fleet.target import Target
from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.state import StateDir


def bring_keys(target: Target, state: StateDir, on_progress: OnProgress) -> None:
    """Have the target take the key lists of `state`; nothing where none was made, or the target has no policy.

    Lists that it does not believe are no reason to deploy nothing: whom it believes judges the bundle. It is said.
    """
    from milton_assets.edge.bundle.key_lists import KeyLists

    chain = KeyLists(state.keys).chain()
    if not chain:
        return
    try:
        target.learn_keys(chain)
    except NotBelieved as error:
        on_progress(Progress("keys", 0, 1, f"{target.name} does not take our key lists: {error.problem}"))
