"""What `duplicates` found, as people are asked about it: pairs and groups, with what is known of each photo.

In: the tables of an output folder. Out: results, candidates, bridges. Imports `record/`.
"""
