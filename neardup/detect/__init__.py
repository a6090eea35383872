"""Detection of the near-duplicates in a folder of photos: search, verification and decision in one call.

In: a folder of photos, an encoder, a decision, verdicts. Out: pairs, groups, tables, pages. Imports the ground and the
packages from `archive` to `decide`.
"""
