"""Measuring how well near-duplicates are found, on the historian's groups, and whether one model beats another.

In: vectors and groups. Out: metrics with intervals, the threshold, tables, pictures, the report. Imports the ground and
the packages from `archive` to `detect`.
"""
