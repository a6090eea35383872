"""What people are asked next: queues, the audit, pairs that are asked again, doubts about the ground truth.

In: results and verdicts. Out: ordered questions. Imports `texts.py`, `record/` and `found/`.
"""
