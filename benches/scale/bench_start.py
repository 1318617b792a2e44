"""What a command takes before it does anything: processor seconds of a whole process, beside what its libraries take.

    python benches/scale/bench_start.py [--tries 5]

Deploys one small release in a temporary state folder and lets each command tell of it, in a process of its own with
compiled modules; the least of the tries counts, since whatever else the machine does only adds. The ratio is to a
process that imports what the command cannot do without and makes one noun or none of it: pydantic and typer for a verb,
pydantic for a device's agent, dagster and pandas for the graph. It prints ratios and judges none.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle
from tests.support.targets import let_serve, targets_of

NOUN = "import pydantic; type('N', (pydantic.BaseModel,), {'__annotations__': {'a': int}})"
VERB, AGENT, GRAPH = f"{NOUN}; import typer.main", NOUN, "import dagster, pandas"
MILTON = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"


def processor_s(command: list[str], state: Path, tries: int) -> float:
    """The least that one run of it took. Raises `CalledProcessError` when it fails."""
    took = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | {"MILTON_STATE_DIR": str(state)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5)
    tries = parser.parse_args().tries
    python = [sys.executable, "-c"]
    unprobed = ("--no-load-test", "--health-rounds", "0")
    rows = [
        ("milton --help", VERB, [*python, MILTON, "--help"]),
        ("milton status", VERB, [*python, MILTON, "status"]),
        ("milton fleet", VERB, [*python, MILTON, "fleet"]),
        ("milton deploy", VERB, [*python, MILTON, "deploy", *unprobed]),
        ("milton-agent check", AGENT, [sys.executable, "-m", "milton_assets.agent", "check"]),
        ("the graph", GRAPH, [*python, "from milton_assets.definitions import build_defs; build_defs()"]),
    ]
    with TemporaryDirectory() as folder:
        state = StateDir(Path(folder))
        let_serve(targets_of(state).named("local"), make_bundle(state.bundles, "v1"))
        bare = {code: processor_s([*python, code], state.root, tries) for code in (VERB, AGENT, GRAPH)}
        print(f"{'':20}{'processor s':>12}{'its libraries':>15}{'ratio':>7}")
        for name, code, command in rows:
            took = processor_s(command, state.root, tries)
            print(f"{name:20}{took:12.2f}{bare[code]:15.2f}{took / bare[code]:7.1f}")


if __name__ == "__main__":
    main()
