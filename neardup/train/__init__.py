"""Fine-tuning a CLIP on photos and captions, and the copies that augmentation makes of photos.

In: a CLIP and training examples. Out: a checkpoint that `from_pretrained` reads. Imports the ground and all from
`archive` to `measure`.
"""
