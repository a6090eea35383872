"""The training of the shipped encoder: its data, its copies, its losses, and a killed run that ends like any other."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import CLIPModel

from neardup.builtin import tiny
from neardup.builtin.pool import (
    DRAWING,
    PHOTO,
    SCENE,
    SIDE,
    Pool,
    held_out_photographs,
    read_groups,
    subjects_of,
    training_pool,
)
from neardup.builtin.pretrain import Muon, Pretrainer, Pretraining, main, pretrain
from neardup.builtin.procedural import DRAWINGS
from neardup.builtin.scenes import Scene
from neardup.errors import ArchiveError
from neardup.train.losses import copy_loss, koleo_loss
from neardup.train.press_torch import press_copies

RECORDED = [0.9842643, 0.9902399, 1.0284001, 0.9837776, 1.0139545, 1.0284857]
"""The rows of a matrix of ones, (3, 2), after two steps of Muon along gradients of seed 0."""
RECIPE = Pretraining(steps=4, shares={PHOTO: 2, SCENE: 2, DRAWING: 2}, scenes=4, drawings=5, warmup=2)
TEXTS = torch.full((2, 224, 224), 255, dtype=torch.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty drawn plates, each exposed twice, listed as the training photographs are."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    with (folder / "photos.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "group"])
        for plate in range(40):
            for exposure in "ab":
                name = f"{plate}_{exposure}.jpg"
                image = Scene.of(9000 + plate).image.convert("L").resize((64, 48))
                image.point(lambda tone, factor=1 if exposure == "a" else 0.7: int(tone * factor)).save(
                    folder / "images" / name
                )
                writer.writerow([name, f"plate {plate}"])
    return folder


@pytest.fixture(scope="module")
def pool(photos: Path) -> Pool:
    """A small pool of all three kinds."""
    return training_pool(photos, RECIPE.scenes, RECIPE.drawings, seed=0)


def test_exposures_of_a_plate_are_held_out_together(photos: Path) -> None:
    """No plate has one exposure in training and the other in validation, and there is some of both."""
    unseen = set(held_out_photographs(photos))
    parts = [len(unseen & set(group)) for group in read_groups(photos)]
    assert {*parts} == {0, 2}


def test_what_is_held_out_is_not_trained_on(photos: Path, pool: Pool) -> None:
    """The pool holds every other photograph, and no more."""
    assert pool.kinds.count(PHOTO) == 80 - len(held_out_photographs(photos))


def test_a_pool_is_its_seed(photos: Path, pool: Pool) -> None:
    """Equal arguments draw equal pictures, another seed others."""
    again = training_pool(photos, RECIPE.scenes, RECIPE.drawings, seed=0)
    other = training_pool(photos, RECIPE.scenes, RECIPE.drawings, seed=1)
    assert (again.digest == pool.digest, other.digest == pool.digest) == (True, False)


def test_scenes_carry_their_captions(pool: Pool) -> None:
    """One a language for each scene, none for anything else."""
    scenes = {pool.subjects[row] for row, kind in enumerate(pool.kinds) if kind == SCENE}
    assert {subject: len(captions) for subject, captions in pool.captions.items()} == dict.fromkeys(scenes, 4)


def test_a_folder_without_a_list_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which file is missing, and the command ends with status 1."""
    with pytest.raises(ArchiveError, match=r"photos\.csv does not exist"):
        read_groups(tmp_path)
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_every_subject_comes_before_one_comes_again(pool: Pool) -> None:
    """Each kind is gone through as a whole."""
    batches = subjects_of(pool, {DRAWING: 1}, seed=3)
    first = [next(batches)[0][0] for _ in range(RECIPE.drawings)]
    assert sorted(first) == [row for row, kind in enumerate(pool.kinds) if kind == DRAWING]


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_a_drawing_is_grey_and_not_flat(name: str) -> None:
    """Float32 from 0 to 1, the same for the same seed."""
    drawing = DRAWINGS[name](np.random.default_rng(5), 96)
    assert (drawing.shape, drawing.dtype) == ((96, 96), np.float32)
    assert 0 <= drawing.min() < drawing.max() <= 1
    assert np.array_equal(drawing, DRAWINGS[name](np.random.default_rng(5), 96))


def pictures(count: int) -> torch.Tensor:
    """Drawn scenes, uint8 (count, 192, 192)."""
    scenes = [np.asarray(Scene.of(seed).image.convert("L").resize((SIDE, SIDE))) for seed in range(count)]
    return torch.from_numpy(np.stack(scenes))


def copied(strength: float, seed: int = 0, count: int = 40) -> torch.Tensor:
    """Copies of drawn scenes at one strength."""
    return press_copies(
        pictures(count), TEXTS, 112, torch.Generator().manual_seed(seed), torch.full((count,), strength)
    )


def test_copies_are_pages_of_the_size_asked_for() -> None:
    """Float32 between 0 and 1, also in more than one chunk."""
    copies = copied(1.0)
    assert (copies.shape, copies.dtype) == ((40, 1, 112, 112), torch.float32)
    assert (float(copies.min()) >= 0, float(copies.max()) <= 1) == (True, True)


def test_a_seed_makes_a_copy() -> None:
    """Equal seeds give equal copies, another seed others."""
    assert torch.equal(copied(1.0), copied(1.0))
    assert not torch.equal(copied(1.0), copied(1.0, seed=1))


def test_no_strength_is_no_damage() -> None:
    """The picture, only made smaller."""
    plain = torch.nn.functional.interpolate(pictures(8)[:, None].float() / 255, (112, 112), mode="area")
    assert float((copied(0.0, count=8) - plain).abs().mean()) < 0.01


def test_more_strength_is_more_damage() -> None:
    """The mean difference to the picture grows."""
    plain = copied(0.0)
    harm = [float((copied(strength) - plain).abs().mean()) for strength in (0.2, 0.6, 1.0)]
    assert harm == sorted(harm)


def copy_oracle(rows: np.ndarray[Any, Any], subjects: list[int], temperature: float) -> float:
    """Row by row: minus the mean log-probability of the others of its subject among all others."""
    total = 0.0
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        exponents = {j: np.exp(row @ rows[j] / temperature) for j in others}
        same = [j for j in others if subjects[j] == subjects[i]]
        total -= float(np.mean([np.log(exponents[j] / sum(exponents.values())) for j in same]))
    return total / len(rows)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=4), st.integers(0, 100), st.floats(0.05, 2))
def test_copy_loss_is_that_of_the_formula(sizes: list[int], seed: int, temperature: float) -> None:
    """With two and with more copies of a subject."""
    subjects = [subject for subject, size in enumerate(sizes) for _ in range(size)]
    rows = np.random.default_rng(seed).normal(size=(len(subjects), 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    loss = copy_loss(torch.tensor(rows), torch.tensor(subjects), temperature)
    assert loss.item() == pytest.approx(copy_oracle(rows, subjects, temperature), rel=1e-6)


def test_copy_loss_of_equal_similarities() -> None:
    """Two subjects with two copies each: ln 3."""
    assert copy_loss(torch.ones(4, 1), torch.tensor([0, 0, 1, 1]), 0.05).item() == pytest.approx(np.log(3))


def test_koleo_looks_at_other_subjects_only() -> None:
    """Two opposite subjects give -ln 2, however near their own copies are."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert koleo_loss(rows, torch.tensor([0, 0, 1, 1])).item() == pytest.approx(-np.log(2))


def test_a_head_begins_by_looking_at_a_neighbour() -> None:
    """In the first layer, the heads of a patch in the middle attend most to patches one away, nearly all to another."""
    model: Any = tiny.untrained(0)
    vision, side = model.vision_model, tiny.SIZE // tiny.PATCH
    model.set_attn_implementation("eager")
    with torch.no_grad():
        seen = vision(torch.zeros(1, 1, tiny.SIZE, tiny.SIZE), output_attentions=True).attentions[0][0]
    middle = side // 2 * side + side // 2
    nearest = (seen[:, 1 + middle, 1:]).argmax(dim=1)
    steps = {(int(k) // side - side // 2, int(k) % side - side // 2) for k in nearest}
    assert len(steps) >= tiny.HEADS - 1
    assert max(abs(step) for pair in steps for step in pair) == 1


def test_in_colour_it_sees_the_luminance() -> None:
    """A grey picture has the vector that the grey model gives it, and a tint of equal luminance has it too."""
    grey: Any = tiny.untrained(0).eval()
    colour: Any = tiny.in_colour(grey)
    page = torch.rand(2, 1, tiny.SIZE, tiny.SIZE)
    tint = page + torch.tensor([0.114, 0.0, -0.299])[None, :, None, None]
    with torch.no_grad():
        expected = grey.get_image_features(pixel_values=page).pooler_output
        for picture in (page.expand(-1, 3, -1, -1), tint):
            found = colour.get_image_features(pixel_values=picture).pooler_output
            assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_in_float32_a_step_of_muon_is_that_of_torch(shape: tuple[int, int]) -> None:
    """Two steps in the same direction and as long, within what bfloat16 rounds."""
    gradients = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    moved = []
    for optimizer in (torch.optim.Muon, Muon):
        matrix = torch.nn.Parameter(torch.ones(shape))
        muon = optimizer([matrix], lr=0.02, weight_decay=0.01)
        for matrix.grad in gradients:
            muon.step()
        moved.append(matrix.detach().flatten() - 1)
    assert torch.cosine_similarity(*moved, dim=0).item() > 0.995
    assert moved[1].norm().item() == pytest.approx(moved[0].norm().item(), rel=0.02)


def test_two_steps_of_muon_give_recorded_weights() -> None:
    """A matrix that begins as ones and follows two drawn gradients ends where it was recorded to end."""
    matrix = torch.nn.Parameter(torch.ones(3, 2))
    muon = Muon([matrix], lr=0.02, weight_decay=0.01)
    for matrix.grad in torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)):
        muon.step()
    assert matrix.detach().flatten().tolist() == pytest.approx(RECORDED, abs=1e-6)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What a training has written."""
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_a_killed_training_ends_like_any_other(photos: Path, tmp_path: Path) -> None:
    """Stopped after its first two steps, it goes on to the same weights; a plain CLIP is what it writes."""
    pretrain(photos, tmp_path / "whole", RECIPE, check=2)

    def stop(sentence: str) -> None:
        if sentence.startswith("step 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(photos, tmp_path / "killed", RECIPE, check=2, report=stop)
    sentences: list[str] = []
    pretrain(photos, tmp_path / "killed", RECIPE, check=2, report=sentences.append)
    assert "steps 2 to 4" in sentences[0]
    torch.testing.assert_close(weights(tmp_path / "killed"), weights(tmp_path / "whole"), rtol=0, atol=0)
    assert CLIPModel.from_pretrained(tmp_path / "killed").config.vision_config.num_channels == 3
    assert not (tmp_path / "killed" / "state").exists()


def test_training_lowers_the_loss(pool: Pool) -> None:
    """Eight steps on the same copies of six subjects: their loss falls to less than a tenth."""
    pretrainer = Pretrainer(replace(RECIPE, keep=1.0, window=0.0, blend=0.0), pool, torch.device("cpu"))
    batch = next(subjects_of(pool, RECIPE.shares, 0))
    losses = [pretrainer.step(1, batch)["copies"] for _ in range(8)]
    assert losses[-1] < 0.1 * losses[0]


def test_the_training_core_needs_no_more_than_a_borrowed_gpu_has() -> None:
    """Nothing of the servers, of sheets or of science beyond torch and transformers is imported."""
    absent = ["prefect", "mlflow", "pandas", "sklearn", "scipy", "imagehash", "optuna", "matplotlib"]
    absent += ["accelerate", "pydantic"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import neardup.builtin.pretrain"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
