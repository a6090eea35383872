"""Verification of a pair of photos by local features: whether both show one picture, and by what transform.

In: photos, and the pairs of them that vectors propose. Out: the evidence for each pair, its relation in words, and the
picture that explains it. Imports the ground and the packages from `archive` to `search`.
"""
