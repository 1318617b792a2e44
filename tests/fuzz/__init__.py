"""Looking for bytes of others that a parser does not stand.

What belongs here: the parsers with valid input of each, how that is damaged, the bounded search (`python -m
tests.fuzz.run`), and the faults it found, which are tried again in every run of the tests. What does not: what a parser
makes of good input.
"""
