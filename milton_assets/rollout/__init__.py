"""Rollouts: a release taken to many devices gradually, in waves that stop by evidence.

    plan = plan_rollout(…)                              # planning: shown before anything begins
    with opened(folder) as journal:                     # journal: resumable after a crash at any point
        run(Controller(journal), Devices(targets, plan), …)

What belongs here: the plan, the state machine of a rollout and its journal, the controller, and what it does with real
and with simulated devices. What does not: how one device changes (`edge.deployment`), how one is spoken to (`fleet`).

Read `states` first: it is the whole argument. `controller` is what happens next, `statistics.failure_rate` the
evidence. `arms` compares two releases by whole devices, of which a rollout takes one to its share.
"""
