"""Milton Autobench: decides, on evidence, which registered model serves on the edge, and takes it there.

What belongs here: the packages of the product. `vocabulary` holds the nouns, the "how" packages
(`inference`, `reasoning`, `retrieval`, `selection`, `edge`) the verbs, `assets` and the modules beside it
the Dagster wiring, `cli` the command line. What does not: anything a run is made *with* (servers, stores,
probes), which lives in the top-level package `resources`.
"""

from datetime import UTC, datetime

__version__ = "0.1.0"
MADE_ON = datetime(2026, 11, 1, tzinfo=UTC)
"""When this version was made, or a little before: a clock that stands earlier is wrong. Set anew with each version."""
