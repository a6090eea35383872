"""The contrastive loss of CLIP, with a target that spreads over photos of one legend."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name


def targets(captions: Sequence[str], *, shared: bool) -> Tensor:
    """Which caption belongs to which photo of a batch.

    Args:
        captions: of the photos, in order.
        shared: spread evenly over equal captions; otherwise only a photo's own caption counts, as in CLIP.

    Returns:
        float32 (n, n), rows sum to 1.
    """
    if not shared:
        return torch.eye(len(captions))
    number = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    ids = torch.tensor([number[caption] for caption in captions])
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(1, keepdim=True)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, target: Tensor) -> Tensor:
    """Symmetric cross-entropy over the similarities of a batch (Radford et al. 2021, figure 3).

    Args:
        images: (n, d), unit rows.
        texts: (n, d), unit rows.
        scale: scalar; the similarities are multiplied by it.
        target: (n, n) as `targets` gives it; symmetric.

    Returns:
        Scalar; lower is better.
    """
    similarities = scale * images @ texts.T
    return (F.cross_entropy(similarities, target) + F.cross_entropy(similarities.T, target)) / 2
