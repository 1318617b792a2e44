"""A workplace's graph as a module that holds definitions, for commands in processes of their own.

What belongs here: `defs`, made of the environment. What does not: the graph
and the models (`tests.support.served_defs`).
"""

from __future__ import annotations

from tests.support.served_defs import make

defs = make()
