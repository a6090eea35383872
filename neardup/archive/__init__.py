"""Preparation: from the archive's folders and sheets to a test set, a training set and a report of discrepancies.

In: the archive, which is only read. Out: tables and copies of photos in the output folder. Imports only the ground.
"""
