"""From photos to vectors: the encoders, their fingerprints, and the stores that keep what was encoded.

In: image files. Out: unit vectors, one encoder a store. Imports the ground and `archive`.
"""
