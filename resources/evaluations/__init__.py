"""Running evaluations with the packages that they are written for, each in an environment of its own.

What belongs here: names that are used from outside. What does not: code.
"""
