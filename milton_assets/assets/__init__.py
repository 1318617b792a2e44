"""The assets, one thin module a stage: registry, goldens, tiers, selection, bundles, deployments.

What belongs here: keys, partitions, inputs, resources, metadata. What does not: anything worth a unit test; that is in
the "how" packages and in `resources`.
"""
