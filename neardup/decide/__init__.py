"""Decisions: from pairs that are alike to groups of near-duplicates.

In: candidate pairs with their evidence, and what people said of pairs. Out: the probability and band of each pair, the
group of each photo. Imports the ground and the packages from `archive` to `verify`.
"""
