"""Evaluations of others as tiers: logs of inspect_ai and results of lm-evaluation-harness.

What belongs here: names that are used from outside. What does not: code.
"""
