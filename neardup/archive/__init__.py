"""From the archive's folders and sheets to a test set, a training set with captions, and a report of what did not fit.

In: the archive, which is only read. Out: tables and copies of photos in the output folder. Imports the ground alone.
"""
