"""The fleet: the edge targets there are, and the one protocol by which everybody speaks to them.

    targets = open_targets(state, {"kit": "/mnt/kit"}, server=EdgeServer)     # milton_assets.usecases.targets
    targets.named("kit").status()

What belongs here: the protocol (`target`), its implementations on this machine (`local`) and over OpenSSH (`ssh`, and
the parts that it is made of), which targets there are and how a URL finds its implementation (`targets`). What does
not: the engine that changes a target (`edge.deployment`), model servers, Dagster.
"""
