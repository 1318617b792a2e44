"""A release compared in the field with the one in service, by the requests of a device's own users.

    plan        what is compared, how requests are split, and what is asked of the challenger
    records     what is kept of a request: its arm, times, tokens and status, never its text
    goldens     golden questions among users' requests
    counts      what the records amount to: counts, from which all evidence follows
    verdict     promote, go back or not yet, from the counts
    whole       what a device tells that is one arm as a whole
    folder      where a canary lies in a target's folder
    starting    bringing a challenger into the folder, and ending a canary

What belongs here: the comparison as data and pure functions, and its files. What does not: serving two releases
(`milton_assets.edge.serving.splitting`) and deployments: a challenger is never `current`.
"""
