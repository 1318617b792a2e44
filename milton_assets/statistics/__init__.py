"""The formulas that figures and decisions share: one of each.

    shares          a share's interval (Wilson), the least number of attempts, the difference of two shares (Newcombe)
    paired          matched pairs: Agresti and Min's interval, McNemar's exact test
    variants        published against fresh variants of the same templates, exact
    samples         mean, deviation, quantiles and rates of a sample
    blocks          the mean and a quantile of values in blocks, by drawing whole blocks
    bootstrap       one seeded percentile bootstrap over units
    agreement       Cohen's kappa of two raters
    separation      the area under the ROC curve
    multiplicity    Holm's correction for many tests
    normal          quantiles of the normal law

What belongs here: pure functions of numbers, each with its source. What does not: which figures a tier reports, what a
policy makes of them, reading files.
"""
