"""The near-duplicates of a folder of photos: searched, verified and decided in one go, and what a person gets of it.

In: a folder of photos, an encoder, a decision, verdicts. Out: pairs, groups, tables, pages. Imports the ground and all
from `archive` to `decide`.
"""
