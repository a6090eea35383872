"""What verdicts teach: the decision of an output folder, fitted again.

In: the pairs that were found, and verdicts. Out: a decision. Imports `record/`.
"""
