"""What goes out to other programs and comes back: workbooks, IIIF manifests, annotations, the ground truth as proposed.

In: results and verdicts. Out: files; answers that somebody gave in one. Imports `texts.py`, `record/` and `found/`.
"""
