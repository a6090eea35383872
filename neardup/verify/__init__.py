"""What local features say of a pair of photos: whether they show one picture, and by what transform.

In: photos and pairs that vectors propose. Out: evidence of each pair, its relation in words, the picture that explains
it. Imports the ground and all from `archive` to `search`.
"""
