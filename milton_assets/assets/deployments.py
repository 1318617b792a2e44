"""The `deployment` asset: the active release of one edge target and its history entry.

What belongs here: wiring. What does not: the deployment's state machine (`milton_assets.edge.deployment`).
"""

from __future__ import annotations

from dagster import Config
from pydantic import Field


class DeploymentConfig(Config):
    """Which run's bundle to deploy."""

    run_id: str = Field(default="", description="A benchmark run; empty takes the newest run that has a bundle.")
