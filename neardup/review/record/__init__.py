"""Records kept for good: verdicts on pairs, their database and consequences, and chosen references.

In: answers. Out: verdicts in force, links that must or cannot be. Imports no other part of `review/`.
"""
