"""From pairs that are alike to groups of near-duplicates.

In: pairs and vectors. Out: the group of each photo. Imports the ground and all from `archive` to `search`.
"""
