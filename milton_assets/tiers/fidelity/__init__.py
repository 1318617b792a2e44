"""The fidelity tier: how far a model expects the next token as the model does that it was made from.

What belongs here: the tier. What does not: HTTP, and finding the reference (`milton_assets.usecases.references`). See
docs/fidelity.md.
"""
