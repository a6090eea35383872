"""What people say of pairs, remembered once and for all, and the page on which they say it.

In: decided pairs and groups, verdicts. Out: verdicts, workbooks and annotations. Imports all but `builtin` and `cli`.
Its parts, each of which imports only those before it: `texts.py`, `record/`, `found/`, `asked/`, `exchange/`,
`learned/`, `page/`, and `value.py`, which measures what all of it buys.
"""
