"""Encoding of photos as vectors: the encoders, their fingerprints, and the stores that keep vectors.

In: image files. Out: unit vectors; vectors of different encoders never mix. Imports the ground and `archive`.
"""
