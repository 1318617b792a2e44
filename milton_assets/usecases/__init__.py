"""What both front doors share: the graph and the command line go through the same use case.

What belongs here: putting the packages that know how together with `resources` that they are done with. What does not:
Dagster's assets, the command line's arguments and printing, and anything a package that knows how can do alone.
"""
