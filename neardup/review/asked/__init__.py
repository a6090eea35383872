"""What is asked next, and of whom: queues, the audit, pairs that are asked again, doubts about the ground truth.

In: results and verdicts. Out: questions in their order. Imports `texts.py`, `record/` and `found/`.
"""
