"""How well near-duplicates are found on the historian's groups, and whether one model is better than another.

In: vectors and groups. Out: metrics with intervals, the threshold, tables, pictures, the report. Imports the ground and
all from `archive` to `detect`.
"""
