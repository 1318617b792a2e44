"""The report: one page, or one text, about a campaign, to hand to somebody who was not there.

    data = gather(...)            # milton_assets.usecases.reporting
    page(data)                    # one HTML file that needs nothing else
    pull_request(data)            # Markdown

What belongs here: the report's nouns and how they are shown. What does not: reading evidence, targets and settings,
which the use case does, and any figure: the decision and the tiers' tables hold them all.
"""
