"""What people say of pairs, remembered once and for all, and the page on which they say it.

In: decided pairs and groups, verdicts. Out: verdicts, workbooks and annotations. Imports all but `builtin` and `cli`.
"""
