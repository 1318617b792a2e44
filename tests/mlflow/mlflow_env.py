"""An environment with a real MLflow server, outside the clone, made once and kept: `python tests/mlflow/mlflow_env.py`.

What belongs here: the recipe, and carrying it out, one process at a time. What does not: tests, which are in
`tests/registry/test_mlflow_server.py`.

It lies at `$MILTON_MLFLOW_ENV`, else below `$XDG_CACHE_HOME/milton` (`~/.cache/milton`), under a name that holds the
recipe's digest. A marker file, written last, says that it is whole. The last line printed is the program's path.
MLflow's own requirements include much that its server does not need, so that what it needs is named here: 400 MB, in a
minute.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

MARKER = "milton-recipe"
MLFLOW = "mlflow==3.18.0"
NEEDED = (
    *("aiohttp<4", "alembic<2", "cachetools", "click", "cloudpickle", "cryptography", "databricks-sdk", "fastapi"),
    *("Flask<4", "Flask-CORS<7", "gitpython", "graphene<4", "huey>=2.5.4,<4", "importlib_metadata", "numpy<3"),
    *("opentelemetry-api", "opentelemetry-proto", "opentelemetry-sdk", "packaging", "pandas<4", "protobuf", "pydantic"),
    *("python-dotenv", "pyyaml", "requests", "sqlalchemy<3", "sqlparse", "starlette", "typing-extensions", "uvicorn"),
)


def recipe() -> str:
    """Names the environment."""
    return hashlib.sha256("\n".join((sys.version, MLFLOW, *NEEDED)).encode()).hexdigest()[:12]


def environment_folder(environment: Mapping[str, str]) -> Path:
    """Where the environment lies."""
    if named := environment.get("MILTON_MLFLOW_ENV"):
        return Path(named).absolute()
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "milton" / f"mlflow-{recipe()}"


def program_of(folder: Path) -> Path:
    """MLflow's program."""
    return folder / "bin" / "mlflow"


def make(environment: Mapping[str, str] = os.environ) -> Path:
    """The environment's `mlflow`, made now if it is not whole yet. Raises `CalledProcessError` when pip fails."""
    folder = environment_folder(environment)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = folder / MARKER
        if not (marker.is_file() and marker.read_text() == recipe()):
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--no-deps", MLFLOW], check=True)
            subprocess.run([*pip, *NEEDED], check=True)
            marker.write_text(recipe())
    return program_of(folder)


if __name__ == "__main__":
    print(make())
