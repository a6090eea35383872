"""Training: fine-tuning of encoders on photos, with captions or copies, and the augmentation that makes copies.

In: a model and training examples. Out: a checkpoint that `load_encoder` reads. Imports the ground and the packages from
`archive` to `measure`.
"""
