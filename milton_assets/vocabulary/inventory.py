"""What a device is: its processor, memory, disk, accelerator, software and clock.

What belongs here: these facts as one validated noun, and nothing that changes while a model serves, but for what is
free at this moment. What does not: reading them from a machine (`resources.inventory`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from milton_assets.vocabulary.fingerprint import GpuFingerprint


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Processor(_Facts):
    """The processor. `features` are the instruction set extensions it names, sorted, as the kernel spells them."""

    architecture: str
    model: str | None
    physical_cores: int | None = Field(default=None, ge=1)
    usable_cores: int = Field(ge=1)
    features: tuple[str, ...] = ()


class Memory(_Facts):
    """Main memory in bytes; of what is in use, `lendable_bytes` would be lent for a load test by the target's
    gateway.
    """

    total_bytes: int = Field(gt=0)
    available_bytes: int = Field(ge=0)
    lendable_bytes: int = Field(default=0, ge=0)


class Disk(_Facts):
    """The file system that the target lies on, in bytes; `mounted_at` is where it is mounted."""

    mounted_at: str
    kind: str | None
    total_bytes: int = Field(ge=0)
    free_bytes: int = Field(ge=0)


class Runtime(_Facts):
    """The model server that the device would serve with, and its build.

    `gpu_layers` is how many layers of a model its settings put on GPUs; None where it takes what fits, or other options
    of it say what goes where.
    """

    name: str
    build: str
    gpu_layers: int | None = Field(default=None, ge=0)


class PowerSource(StrEnum):
    """What a device runs on."""

    MAINS = "mains"
    BATTERY = "battery"


class Inventory(_Facts):
    """A device's read-only facts, as it tells them itself.

    What could not be found out is None, and the field beside it says why; nothing is guessed.
    """

    host: str
    operating_system: str
    kernel: str
    python: str
    processor: Processor
    memory: Memory
    disk: Disk
    gpus: tuple[GpuFingerprint, ...] = ()
    gpus_absent_because: str | None = None
    runtime: Runtime | None = None
    runtime_absent_because: str | None = None
    power_source: PowerSource | None = None
    power_source_absent_because: str | None = None
    clock: AwareDatetime

    @model_validator(mode="after")
    def _absence_is_explained(self) -> Self:
        for what, value, reason in (
            ("gpus", self.gpus, self.gpus_absent_because),
            ("runtime", self.runtime, self.runtime_absent_because),
            ("power_source", self.power_source, self.power_source_absent_because),
        ):
            if bool(value) == bool(reason):
                raise ValueError(f"{what} must either be there or be absent for a reason")
        return self
