"""The device's side: what runs on an edge device, asked over two pipes by whoever may log in there.

    milton-agent serve --target kitchen     # what a controller starts over SSH; it speaks `milton_assets.fleet.wire`
    milton-agent status --target kitchen    # for a person at the device

What belongs here: serving the `Target` protocol's verbs on the device itself: the session (`serving`), what a transfer
leaves behind (`incoming`), attempts that outlive the connection (`attempts`), and putting them together (`device`).
What does not: the engine (`milton_assets.edge`), the controller (`milton_assets.fleet.ssh`), and anything heavy: a
device has neither Dagster nor pandas, pyarrow, scipy, matplotlib or numpy.
"""
