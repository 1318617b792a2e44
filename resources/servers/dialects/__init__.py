"""One module a kind of server, each defining `DIALECT`; a module that is put here is known at once.

What belongs here: how a kind of server names itself, its build and its model. What does not: starting it.
"""
