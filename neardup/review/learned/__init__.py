"""Learning from verdicts: the decision of an output folder is fitted again.

In: the pairs that were found, and verdicts. Out: a decision. Imports `record/`.
"""
