"""A target in another process that speaks JSON over standard input and output: the protocol, and nothing beside it.

What belongs here: both ends. `StdioTarget` is what another implementation of `Target` has to be (it would be a module
in `milton_assets.fleet`), and `main` the device's side: the engine in a folder of its own, whose probe finds every
model well. What does not: assertions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, TypeAdapter

from milton_assets.edge.deployment import (
    Collection,
    Deployment,
    DeploymentFailed,
    EdgeTarget,
    LoadTest,
    NeverDeployed,
    TargetStatus,
    Verification,
)
from milton_assets.edge.deployment.trust import SignedList, TrustTold
from milton_assets.fleet.local import LocalMeans, LocalTarget
from milton_assets.fleet.target import CollectRequest, DeployRequest, Health, RecoverRequest, RollbackRequest
from milton_assets.fleet.targets import Address
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.state import StateDir

_ERRORS: dict[str, type[MiltonError]] = {"NeverDeployed": NeverDeployed}


@dataclass(frozen=True)
class StdioTarget:
    """The target at `stdio://device/FOLDER`: a process a call."""

    name: str
    url: str

    def deploy(self, bundle: Path, request: DeployRequest, *, on_progress: OnProgress = silent) -> Deployment:
        return Deployment.model_validate(self._ask("deploy", request, bundle=str(bundle)))

    def rollback(self, request: RollbackRequest, *, on_progress: OnProgress = silent) -> Deployment:
        return Deployment.model_validate(self._ask("rollback", request))

    def status(self) -> TargetStatus:
        return TargetStatus.model_validate(self._ask("status"))

    def verify(self, release: str | None = None, *, on_progress: OnProgress = silent) -> Verification:
        return Verification.model_validate(self._ask("verify", **({} if release is None else {"release": release})))

    def documents(self, release: str) -> Mapping[str, bytes]:
        return {name: raw.encode() for name, raw in self._ask("documents", release=release).items()}

    def history(self) -> tuple[Deployment, ...]:
        return TypeAdapter(tuple[Deployment, ...]).validate_python(self._ask("history"))

    def recover(self, request: RecoverRequest) -> tuple[str, ...]:
        return tuple(self._ask("recover", request))

    def collect(self, request: CollectRequest) -> Collection:
        return Collection.model_validate(self._ask("collect", request))

    def inventory(self) -> Inventory:
        return Inventory.model_validate(self._ask("inventory"))

    def health(self) -> Health:
        return Health.model_validate(self._ask("health"))

    def learn_keys(self, chain: Sequence[SignedList]) -> TrustTold:
        lists = [one.model_dump(mode="json") for one in chain]
        return TrustTold.model_validate(self._ask("learn_keys", lists=lists))

    def _ask(self, verb: str, request: BaseModel | None = None, **more: Any) -> Any:
        asked: dict[str, Any] = {"verb": verb, "name": self.name, "folder": urlsplit(self.url).path, **more}
        if request is not None:
            asked["request"] = request.model_dump(mode="json")
        device = [sys.executable, "-m", "tests.support.stdio_target"]
        raw = subprocess.run(device, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
        answer = json.loads(raw)
        if "error" not in answer:
            return answer["answer"]
        kind = _ERRORS.get(answer["error"], MiltonError)
        if answer.get("deployment"):
            failed = DeploymentFailed(answer["problem"])
            failed.deployment = Deployment.model_validate(answer["deployment"])
            raise failed
        raise kind(answer["problem"], expected=answer["expected"], remedy=answer["remedy"])


def stdio_target(address: Address, means: LocalMeans) -> StdioTarget:
    """What the scheme `stdio` finds."""
    return StdioTarget(address.name, address.url)


def _device(name: str, folder: Path) -> LocalTarget:
    from resources.inventory import inventory_of
    from tests.support.crashing import healthy

    def load_test() -> LoadTest:
        return healthy

    state = StateDir(folder.parent / "device-state")
    return LocalTarget(EdgeTarget(name, folder, state=state), state, LocalMeans(load_test, inventory_of))


def _answer(asked: dict[str, Any]) -> Any:
    target = _device(asked["name"], Path(asked["folder"]))
    requests: dict[str, type[BaseModel]] = {
        "deploy": DeployRequest,
        "rollback": RollbackRequest,
        "recover": RecoverRequest,
        "collect": CollectRequest,
    }
    arguments: list[Any] = [Path(asked["bundle"])] if "bundle" in asked else []
    arguments += [asked["release"]] if "release" in asked else []
    arguments += [[SignedList.model_validate(one) for one in asked["lists"]]] if "lists" in asked else []
    if "request" in asked:
        arguments.append(requests[asked["verb"]].model_validate(asked["request"]))
    return TypeAdapter(Any).dump_python(getattr(target, asked["verb"])(*arguments), mode="json")


def main() -> None:
    """The device: one question on standard input, its answer on standard output."""
    try:
        said: dict[str, Any] = {"answer": _answer(json.load(sys.stdin))}
    except MiltonError as error:
        said = {"error": type(error).__name__, "problem": error.problem}
        said |= {"expected": error.expected, "remedy": error.remedy}
        if isinstance(error, DeploymentFailed):
            said["deployment"] = error.deployment.model_dump(mode="json")
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
