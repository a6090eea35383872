"""The page on which people judge pairs and groups: its server, its pictures and its API.

In: results and queues. Out: HTML, JSON, verdicts. Imports `texts.py`, `record/`, `found/` and `asked/`.
"""
