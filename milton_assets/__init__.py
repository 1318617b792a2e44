"""Milton Autobench: decides, on evidence, which registered model serves on the edge, and takes it there.

What belongs here: the packages of the product. `vocabulary` holds the nouns, the "how" packages
(`inference`, `reasoning`, `retrieval`, `selection`, `edge`) the verbs, `assets` and the modules beside it
the Dagster wiring, `cli` the command line. What does not: anything a run is made *with* (servers, stores,
probes), which lives in the top-level package `resources`.
"""

__version__ = "0.1.0"
