"""The contrastive loss against an independent formula, and its gradient in parts against the whole."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from neardup.train.losses import backward_in_parts, contrastive_loss, legend_targets


def unit_rows(n: int, d: int, seed: int) -> npt.NDArray[np.float64]:
    """Random unit vectors."""
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def oracle(images: npt.NDArray[np.float64], texts: npt.NDArray[np.float64], scale: float, legends: list[int]) -> float:
    """Row by row: minus the mean log-probability of the texts (images) that have the row's legend."""
    total = 0.0
    for queries, answers in ((images, texts), (texts, images)):
        for i, query in enumerate(queries):
            exponents = np.exp([math.exp(scale) * float(query @ answer) for answer in answers])
            right = [j for j, legend in enumerate(legends) if legend == legends[i]]
            total -= float(np.mean([math.log(exponents[j] / exponents.sum()) for j in right]))
    return total / (2 * len(legends))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 100), st.floats(-1, 3), st.booleans())
def test_loss_is_that_of_the_formula(legends: list[int], seed: int, scale: float, shared: bool) -> None:  # noqa: FBT001
    """With equal legends shared, and with each photo's own text the only right one."""
    images, texts = unit_rows(len(legends), 5, seed), unit_rows(len(legends), 5, seed + 1)
    targets = legend_targets(torch.tensor(legends), shared=shared).double()
    loss = contrastive_loss(torch.tensor(images), torch.tensor(texts), torch.tensor(scale), targets)
    numbers = legends if shared else list(range(len(legends)))
    assert loss.item() == pytest.approx(oracle(images, texts, scale, numbers), rel=1e-6, abs=1e-7)


def test_targets_spread_over_equal_legends() -> None:
    """Two of three photos have one legend: each is half the answer to the other."""
    targets = legend_targets(torch.tensor([7, 8, 7]), shared=True)
    assert targets.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]


def test_targets_not_shared_are_the_diagonal() -> None:
    """As the prior project had it."""
    assert legend_targets(torch.tensor([7, 8, 7]), shared=False).tolist() == torch.eye(3).tolist()


def test_equal_similarities_give_log_n() -> None:
    """Nothing known about four pairs: ln 4."""
    rows = torch.ones((4, 1))
    assert contrastive_loss(rows, rows, torch.tensor(1.0), torch.eye(4)).item() == pytest.approx(math.log(4))


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(1, 4))
def test_parts_have_the_gradient_of_the_whole(rows: int, parts: int) -> None:
    """Whatever the parts, loss and gradient are those of the whole batch, the temperature's included."""
    generator = torch.Generator().manual_seed(rows)
    pixels = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    tokens = torch.randn(rows, 4, generator=generator, dtype=torch.float64)
    image_tower, text_tower = (
        torch.randn(6, 3, generator=generator).double(),
        torch.randn(4, 3, generator=generator).double(),
    )
    scale = torch.tensor(1.0, dtype=torch.float64)
    weights = [weight.requires_grad_() for weight in (image_tower, text_tower, scale)]
    targets = legend_targets(torch.arange(rows) % 3, shared=True).double()

    def embed(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, texts = pixels[part] @ image_tower, tokens[part] @ text_tower
        return functional.normalize(images, dim=-1), functional.normalize(texts, dim=-1)

    whole = contrastive_loss(*embed(torch.arange(rows)), scale, targets)
    expected = torch.autograd.grad(whole, weights)
    loss = backward_in_parts(
        [lambda part=part: embed(part) for part in torch.arange(rows).chunk(parts)],  # type: ignore[misc]
        lambda images, texts: contrastive_loss(images, texts, scale, targets),
    )
    assert loss == pytest.approx(whole.item())
    torch.testing.assert_close([weight.grad for weight in weights], list(expected))
