"""Review: verdicts of people on pairs, kept for good, and the page on which they give them.

In: decided pairs and groups, verdicts. Out: verdicts, workbooks and annotations. Imports all but `builtin` and `cli`.
Its parts, each of which imports only those before it: `texts.py`, `record/`, `found/`, `asked/`, `exchange/`,
`learned/`, `page/`, and `value.py`, which measures how much verdicts improve groups.
"""
