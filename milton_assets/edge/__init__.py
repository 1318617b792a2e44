"""The edge: bundles that carry a model with its evidence, and deployments that cannot break a device.

What belongs here: `manifest` (the nouns both sides share), `bundle` (making, checking and carrying) and `deployment`
(taking a bundle into service). What does not: Dagster, model servers' processes, and decisions about models.
"""
