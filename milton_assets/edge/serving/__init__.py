"""Serving: one stable OpenAI-compatible address in front of the model server that runs a target's `current` release.

    milton-serve --target-path /srv/edge           # until Ctrl-C; a deployment changes what it serves, and no request
    fails

What belongs here: the gateway (`gateway`, over `users`, `passing`, `http1` and `observe`), what runs behind it
(`model_server`, `supervisor`, over `released`), and what is told of requests (`metrics`). What does not: how a model
server is started (the launcher is the caller's), and changing which release is current (`edge.deployment`).
"""
