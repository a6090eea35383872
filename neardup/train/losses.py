"""The contrastive losses of captions and of copies, and their gradients in parts for small memories."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Embed = Callable[[], tuple[Tensor, ...]]
"""Embeds one part of a batch: images and texts, or copies alone, float32 (m, d) each, unit rows."""
Combine = Callable[[Tensor], Tensor]
"""Turns the rows that this process embedded, float32 (m, d), into those of the whole batch, float32 (n, d)."""


def legend_targets(legends: Tensor, *, shared: bool) -> Tensor:
    """Which texts of a batch are right for each photo, as a distribution over the batch.

    Args:
        legends: int64 (n,); equal numbers are equal legends.
        shared: every text of a photo's legend is right; else its own text is the only right one.

    Returns:
        float32 (n, n), rows sum to 1, symmetric. Legends (7, 8, 7) shared: row 0 is (.5, 0, .5).
    """
    if not shared:
        return torch.eye(len(legends), device=legends.device)
    same = (legends[:, None] == legends[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, targets: Tensor) -> Tensor:
    """Symmetric cross-entropy over a batch's image-text similarities (Radford et al. 2021, figure 3).

    Mean of the cross-entropy of each image over all texts and of each text over all images; the similarities are
    multiplied by exp(logit_scale) first. Two unrelated pairs of equal similarities give ln 2.

    Args:
        images: float32 (n, d), unit rows.
        texts: float32 (n, d), unit rows; row i belongs to image i.
        logit_scale: logarithm of the inverse temperature, a scalar.
        targets: float32 (n, n) of `legend_targets`.
    """
    similarities = logit_scale.exp() * images @ texts.T
    by_image = functional.cross_entropy(similarities, targets)
    by_text = functional.cross_entropy(similarities.T, targets)
    return (by_image + by_text) / 2


def backward_in_parts(
    parts: Sequence[Embed],
    loss_of: Callable[..., Tensor],
    combine: Combine = lambda rows: rows,
    own: slice = slice(None),
) -> float:
    """Loss of a whole batch, and its exact gradient, with the memory of one part (GradCache, Gao et al. 2021).

    A contrastive loss compares all rows with all others, so that a mean over the losses of parts would be another
    loss. Here all parts are embedded first, the loss is derived by the embeddings, and each part is embedded again
    to carry that derivative to the weights. A single part is embedded once.

    Args:
        parts: embed the parts of this process, in order; they give the same result each time.
        loss_of: the loss of all rows, of each kind that the parts embed.
        combine: gathers the rows of all processes.
        own: which of the gathered rows are this process's.

    Returns:
        The loss. Gradients are added to the weights, as `Tensor.backward` does; of several processes, each adds
        those of its own rows, and all of the gradient of what only `loss_of` depends on.
    """
    single = len(parts) == 1
    with torch.set_grad_enabled(single):
        embedded = [embed() for embed in parts]
    gathered = [combine(torch.cat(rows).detach()).requires_grad_() for rows in zip(*embedded, strict=True)]
    loss = loss_of(*gathered)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [_gradient(leaf)[own] for leaf in gathered]
    sizes = [len(kinds[0]) for kinds in embedded]
    for i, pieces in enumerate(zip(*(torch.split(gradient, sizes) for gradient in gradients), strict=True)):
        rows = embedded[i] if single else parts[i]()
        # The rows of a frozen tower carry no gradient.
        learning = [pair for pair in zip(rows, pieces, strict=True) if pair[0].requires_grad]
        torch.autograd.backward([row for row, _ in learning], [piece for _, piece in learning])
    return loss.item()


def _gradient(leaf: Tensor) -> Tensor:
    """The gradient that a backward pass has left on a tensor."""
    assert leaf.grad is not None, "the loss depends on every embedding"  # noqa: S101 - our own mistake only
    return leaf.grad


def copy_loss(
    vectors: Tensor,
    subjects: Tensor,
    temperature: float,
    ignored: Tensor | None = None,
    negatives: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Contrastive loss of image copies with several positives (Khosla et al. 2020, L_out; NT-Xent for two copies each).

    Mean over rows of the cross-entropy between the softmax of a row's similarities to all others, divided by the
    temperature, and the even distribution over the others of its subject. Two subjects with two copies each, all
    similarities equal, give ln 3.

    Args:
        vectors: float32 (n, d), unit rows.
        subjects: int64 (n,); every subject occurs at least twice.
        temperature: greater than 0.
        ignored: bool (n, n), pairs of two subjects that are no negatives of each other; none by default.
        negatives: float32 (m, d), unit rows that are further negatives, and bool (n, m), pairs of a row and a negative
            that do not count.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    absent = itself if ignored is None else itself | ignored
    logits = (vectors @ vectors.T / temperature).masked_fill(absent, float("-inf"))
    same = ((subjects[:, None] == subjects[None, :]) & ~itself).to(vectors.dtype)
    targets = same / same.sum(dim=1, keepdim=True)
    if negatives is not None:
        rows, uncounted = negatives
        logits = torch.cat([logits, (vectors @ rows.T / temperature).masked_fill(uncounted, float("-inf"))], dim=1)
    logarithms = functional.log_softmax(logits, dim=1)[:, : len(vectors)].masked_fill(absent, 0.0)
    return -(targets * logarithms).sum(dim=1).mean()


def koleo_loss(vectors: Tensor, subjects: Tensor, negatives: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest row of another subject (Sablayrolles et al. 2019).

    It spreads the vectors evenly over the sphere, so that a distance means the same for every query, as in
    self-supervised copy detection (Pizzi et al. 2022). Two opposite rows give -ln 2.

    Args:
        vectors: float32 (n, d), unit rows.
        subjects: int64 (n,), at least two different ones.
        negatives: further rows that may be the nearest, as in `copy_loss`.
    """
    same = subjects[:, None] == subjects[None, :]
    similarities = (vectors @ vectors.T).masked_fill(same, -1.0)
    if negatives is not None:
        rows, uncounted = negatives
        similarities = torch.cat([similarities, (vectors @ rows.T).masked_fill(uncounted, -1.0)], dim=1)
    nearest = similarities.amax(dim=1)
    return -(2 - 2 * nearest).clamp_min(1e-6).sqrt().log().mean()


def likeness_loss(vectors: Tensor, start: Tensor, temperature: float) -> Tensor:
    """How far the likenesses of a batch have moved from those that the model had before training.

    Mean over rows of the cross-entropy from the softmax of a row's similarities to all others, by the vectors from
    before, to the same by the present vectors. Distilling relations between pictures keeps what the model knew (Tung
    and Mori 2019; Park et al. 2019). Least where both are equal: then it is the mean entropy, ln 2 for three rows that
    are all equally alike.

    Args:
        vectors: float32 (n, d), unit rows.
        start: float32 (n, k), unit rows of the same photos.
        temperature: what both similarities are divided by, greater than 0.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    targets = (start @ start.T / temperature).masked_fill(itself, float("-inf")).softmax(dim=1)
    logits = (vectors @ vectors.T / temperature).masked_fill(itself, float("-inf"))
    logarithms = functional.log_softmax(logits, dim=1).masked_fill(itself, 0.0)
    return -(targets * logarithms).sum(dim=1).mean()
