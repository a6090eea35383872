"""The results of `duplicates` as people are asked about them: pairs and groups, with facts about each photo.

In: the tables of an output folder. Out: results, candidates, bridges. Imports `record/`.
"""
