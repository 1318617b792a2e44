"""The stages of a campaign, a module each: what child runs each wants, and what is said when one fails.

What belongs here: stages, which know the campaign under way and its children and none of each other. What does not:
their order (`milton_assets.conductor`), and what the child runs do (`milton_assets.assets`).
"""
