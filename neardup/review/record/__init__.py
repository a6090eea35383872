"""What people said of pairs, kept for good: verdicts and their database, what follows from them, and chosen references.

In: answers. Out: verdicts in force, links that must or cannot be. Imports no other part of `review/`.
"""
