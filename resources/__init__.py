"""What a run is made with: model servers, the registry, stores, probes, edge targets.

What belongs here: adapters to the world outside, each behind a small interface of `milton_assets.vocabulary`. What does
not: deciding or measuring anything. Modules that import Dagster say so in their first line; those under `servers/` and
`hardware` never do, so that the command line can use them.
"""
