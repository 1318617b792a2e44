"""The `milton` command: a thin door to the same code the graph runs.

What belongs here: a module per group of verbs, each with a `register` function; `app` puts them together. What does
not: anything a verb does.
"""
