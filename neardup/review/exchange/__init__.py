"""Exchange with other programs: workbooks, IIIF manifests, annotations, and the proposed ground truth.

In: results and verdicts. Out: files, and answers that somebody gave in them. Imports `texts.py`, `record/` and
`found/`.
"""
