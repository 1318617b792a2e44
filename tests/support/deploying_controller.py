"""A controller in a process of its own that deploys to a device over pipes, and writes down what it made of it.

    python -m tests.support.deploying_controller TMP BUNDLE DEPLOYMENT

What belongs here: the deployment and the verdict as the controller has it. What does not: assertions.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from milton_assets.edge.deployment import DeploymentFailed
from milton_assets.fleet.target import DeployRequest
from milton_assets.vocabulary.errors import MiltonError
from tests.support.agents import device

CONFIRM_WITHIN_S = 8.0


def main() -> None:
    """Deploy, and write the verdict to `TMP/verdict.json`."""
    tmp, bundle, deployment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    request = DeployRequest(actor="ada", deployment=deployment, health_rounds=2, health_interval_s=0.3)
    try:
        verdict = {"outcome": device(tmp, confirm_within_s=CONFIRM_WITHIN_S).deploy(bundle, request).outcome}
    except DeploymentFailed as error:
        verdict = {"outcome": error.deployment.outcome}
    except MiltonError as error:
        verdict = {"error": type(error).__name__, "said": str(error)}
    (tmp / "verdict.json").write_text(json.dumps(verdict))


if __name__ == "__main__":
    main()
