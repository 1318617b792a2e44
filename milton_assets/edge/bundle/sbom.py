"""The bundle's bill of materials, in CycloneDX 1.6 JSON.

What belongs here: that one document. What does not: what the bundle's maker or its device has installed.

Written out here: it is forty lines of plain JSON that depend on nothing, where the format's library would bring six
packages to every device that makes or checks a bundle; the tests hold it against that library's schema.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from milton_assets import __version__
from milton_assets.edge.manifest import FileEntry
from milton_assets.vocabulary.registry import Artefact, RegistryEntry


def bill_of_materials(
    weights: Sequence[FileEntry],
    entry: RegistryEntry,
    artefact: Artefact,
    *,
    licence: str | None,
    quantization: str | None,
    architecture: str | None,
    readings: Sequence[Mapping[str, Any]],
    now: datetime,
) -> bytes:
    """The document: the model as a machine-learning component with its figures, its files, and its base model.

    `readings` are the winner's, as the decision has them. A performance metric's `slice` is the tier that measured it.
    """
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{entry.version}",
        "name": entry.version,
        "version": entry.version,
        "hashes": [_sha256(artefact.sha256)],
        "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": entry.base_model}]},
        "modelCard": {
            "modelParameters": {"architectureFamily": architecture} if architecture else {},
            "quantitativeAnalysis": {"performanceMetrics": [_performance(reading) for reading in readings]},
        },
        "properties": [{"name": "milton:artefact_kind", "value": artefact.kind.value}],
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{file.path}",
                "name": file.path,
                "hashes": [_sha256(file.sha256)],
            }
            for file in weights
        ],
    }
    if licence:
        model["licenses"] = [{"license": {"name": licence}}]
    if quantization:
        model["properties"].append({"name": "milton:quantization", "value": quantization})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'{artefact.sha256} {now.isoformat()}')}",
        "version": 1,
        "metadata": {
            "timestamp": now.astimezone(UTC).isoformat(timespec="seconds"),
            "tools": {"components": [{"type": "application", "name": "milton-autobench", "version": __version__}]},
        },
        "components": [model],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _performance(reading: Mapping[str, Any]) -> dict[str, Any]:
    """The metric with its unit in the name, and its confidence interval where it has one."""
    metric = reading["metric"]
    unit = f" [{metric['unit']}]" if metric["unit"] else ""
    told: dict[str, Any] = {
        "type": f"{metric['name']}{unit}",
        "value": f"{metric['value']:.6g}",
        "slice": reading["tier"],
    }
    if (interval := metric["interval"]) is not None:
        told["confidenceInterval"] = {"lowerBound": f"{interval['low']:.6g}", "upperBound": f"{interval['high']:.6g}"}
    return told


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
