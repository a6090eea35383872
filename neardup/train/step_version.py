"""Version of the training step, in a module without torch, for code that only asks whether a training is done."""

TRAIN_STEP = 10
"""Version of the training step, bumped when equal inputs would give other weights."""
