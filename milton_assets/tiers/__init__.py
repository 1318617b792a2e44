"""The tiers: one package a kind of measurement.

What belongs here: how to measure, as verbs over HTTP and pure functions. What does not: Dagster, `resources`, serving a
model, and deciding (`milton_assets.selection`). A tier imports no other tier.
"""
