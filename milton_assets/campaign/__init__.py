"""A campaign under way: what it was told, what keeps others away, its child runs, its stages, and what is said of it.

What belongs here: everything that a campaign does as runs of Dagster's, a module a subject; `stages` has one for each
part of the road. What does not: the order of the stages, and when one begins, is gone on with and ends
(`milton_assets.conductor`); what the child runs do (`milton_assets.assets`); the record of a campaign that has not
ended (`milton_assets.vocabulary.campaign`), and its settings (`resources.campaign`).
"""
