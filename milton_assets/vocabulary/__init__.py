"""The words the project is written in, as types that validate themselves.

What belongs here: nouns that more than one package uses, and the small pure functions that make them
(digests, keys, canonical JSON). What does not: anything that measures, decides, talks to a network or knows
Dagster. This package imports nothing else of the project.
"""
