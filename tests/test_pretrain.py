"""The training of the shipped encoder: its data, its copies, its losses, and a killed run that ends like any other."""

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import VisionTextDualEncoderModel

from neardup.builtin import tiny
from neardup.builtin.pool import (
    SIDE,
    Pool,
    batches_of,
    drawn_scenes,
    held_out_groups,
    read_groups,
    training_photographs,
    training_pool,
    training_singletons,
    validation_pool,
)
from neardup.builtin.pretrain import main, pretrain
from neardup.builtin.recipes import TRAININGS, Pretraining
from neardup.builtin.scenes import Scene
from neardup.builtin.training_step import Pretrainer
from neardup.errors import ArchiveError
from neardup.train.losses import copy_loss, koleo_loss
from neardup.train.press_torch import hard_tones, moderate_tones, press_copies

RECIPE = Pretraining(
    steps=4, subjects=6, anchors=3, clustered=1, sizes=(32,), memory=20, warmup=2, scenes=8, text_steps=2, text_batch=4
)
TEXTS = torch.full((2, 224, 224), 255, dtype=torch.uint8)


@pytest.fixture(scope="module", autouse=True)
def few_texts() -> Iterator[None]:
    """A pool of eight pages of text: to draw 128 of them takes most of the time of a short training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neardup.builtin.pool.TEXTS", 8)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty drawn plates, each exposed twice, listed as the training photographs are."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    with (folder / "photos.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "group"])
        for plate in range(20):
            image = Scene.of(9000 + plate).image.convert("L").resize((64, 48))
            for exposure in "ab":
                name = f"{plate}_{exposure}.jpg"
                image.point(lambda tone, factor=1 if exposure == "a" else 0.7: int(tone * factor)).save(
                    folder / "images" / name
                )
                writer.writerow([name, f"plate {plate}"])
    return folder


@pytest.fixture(scope="module")
def pool(photos: Path) -> Pool:
    """The photographs that may be trained on."""
    return training_pool([photos])


def test_exposures_of_a_plate_are_held_out_together(photos: Path) -> None:
    """No plate has one exposure in training and the other in validation, and there is some of both."""
    unseen = {path for group in held_out_groups([photos]) for path in group}
    parts = [len(unseen & set(group)) for group in read_groups(photos)]
    assert {*parts} == {0, 2}


def test_what_is_held_out_is_not_trained_on(photos: Path, pool: Pool) -> None:
    """The pool holds every other photograph, and no more."""
    assert len(pool.pixels) == 40 - 2 * len(held_out_groups([photos]))
    assert {len(rows) for rows in pool.members} == {2}


def name_one_picture(names: Sequence[str], folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have photographs listed as near-duplicates of one picture."""
    table = folder / "near_duplicates.csv"
    table.write_text("photo,picture\n" + "".join(f"{name},one\n" for name in names), encoding="utf-8")
    patch.setattr("neardup.builtin.pool.NEAR_DUPLICATES", table)


def test_what_shows_a_held_out_picture_is_not_trained_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the other exposures of its plate, though the list of the photographs names it apart."""
    before = training_photographs([photos])
    name_one_picture([held_out_groups([photos])[0][0].name, before[0].name], tmp_path, monkeypatch)
    assert training_photographs([photos]) == before[2:]


def test_held_out_plates_of_one_picture_are_one_group(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a link between them would count as a false one."""
    first, second, *others = held_out_groups([photos])
    name_one_picture([first[0].name, second[0].name], tmp_path, monkeypatch)
    assert held_out_groups([photos]) == [first + second, *others]
    assert [len(rows) for rows in validation_pool([photos]).members] == [4, *[2] * len(others)]


def test_singletons_are_the_training_photographs_of_which_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither exposures of a plate nor what is known to show one picture, and nothing that is held out."""
    rows = ["file,group", "a.jpg,plate", "b.jpg,plate", *(f"{number}.jpg," for number in range(20))]
    (tmp_path / "photos.csv").write_text("\n".join(rows), encoding="utf-8")
    first, second, *others = [path for path in training_photographs([tmp_path]) if path.stem.isdigit()]
    name_one_picture([first.name, second.name], tmp_path, monkeypatch)
    assert held_out_groups([tmp_path])
    assert training_singletons([tmp_path]) == others


def test_photographs_of_one_picture_do_not_repel_each_other(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The subject that looks most like the first one comes last of its neighbours once both are listed as one."""
    pool, names = training_pool([photos]), [path.name for path in training_photographs([photos])]
    nearest = int(Pretrainer(RECIPE, pool, None, torch.device("cpu")).neighbours[0, 0])
    name_one_picture([names[0], names[pool.members[nearest][0]]], tmp_path, monkeypatch)
    told = Pretrainer(RECIPE, training_pool([photos]), None, torch.device("cpu"))
    assert told.neighbours[0, -1] == nearest


def test_scenes_are_their_seed_and_carry_captions() -> None:
    """One a language; another seed draws other scenes."""
    first, again, other = (drawn_scenes(3, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)
    assert {len(captions) for captions in first.captions} == {4}


def test_a_folder_without_a_list_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which file is missing, and the command ends with status 1."""
    with pytest.raises(ArchiveError, match=r"photos\.csv does not exist"):
        read_groups(tmp_path)
    assert main([str(tmp_path), "--imagenet", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_every_subject_comes_before_one_comes_again() -> None:
    """As an anchor; the subjects of a batch are different, and those that look alike meet."""
    neighbours = (np.arange(12)[:, None] + np.arange(1, 6)) % 12
    batches = [next(found) for found in [batches_of(neighbours, 3, 1, 8, seed=3)] for _ in range(4)]
    assert sorted(subject for batch in batches for subject in batch[:3]) == list(range(12))
    assert {len(set(batch)) for batch in batches} == {8}
    assert all(len(set(batch) & set(neighbours[batch[0]].tolist())) >= 4 for batch in batches)
    filled = next(batches_of(neighbours, 3, 0, 6, seed=3, filling=range(4, 12)))
    assert set(filled[3:]) <= set(range(4, 12))


@cache
def picture(seed: int) -> torch.Tensor:
    """A drawn scene, uint8 (224, 224)."""
    return torch.from_numpy(np.array(Scene.of(seed).image.convert("L").resize((SIDE, SIDE))))


def pictures(count: int) -> torch.Tensor:
    """Drawn scenes, uint8 (count, 224, 224)."""
    return torch.stack([picture(seed) for seed in range(count)])


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
    first, again, other = (copied(1.0, seed, count=33) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_strength_is_no_damage() -> None:
    """The picture, only made smaller."""
    plain = torch.nn.functional.interpolate(pictures(8)[:, None].float() / 255, (112, 112), mode="area")
    assert float((copied(0.0, count=8) - plain).abs().mean()) < 0.01


def test_more_strength_is_more_damage() -> None:
    """The mean difference to the picture grows."""
    plain = copied(0.0, count=16)
    harm = [float((copied(strength, count=16) - plain).abs().mean()) for strength in (0.2, 0.6, 1.0)]
    assert harm == sorted(harm)


def test_hard_tones_blacken_and_whiten_where_moderate_ones_do_not() -> None:
    """Of a ramp between a quarter and three quarters; the default of copies is hard."""
    ramps = torch.linspace(0.25, 0.75, 64).expand(200, 1, 64, 64).clone()
    lost = [
        float((((page := tones(ramps, torch.Generator().manual_seed(0))) == 0) | (page == 1)).float().mean())
        for tones in (moderate_tones, hard_tones)
    ]
    assert lost[0] < 0.05
    assert lost[1] > 0.15
    plain = torch.full((1, SIDE, SIDE), 100, dtype=torch.uint8)
    made = [
        press_copies(plain, TEXTS, 32, torch.Generator().manual_seed(5), torch.ones(1), *tones)
        for tones in ((), (hard_tones,), (moderate_tones,))
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_recipe_has_hard_tones_or_moderate_ones(pool: Pool) -> None:
    """The first four trainings of the shipped encoder know moderate ones alone, and are repeated so."""

    def remembered(*, hard: bool) -> torch.Tensor:
        pretrainer = Pretrainer(replace(RECIPE, hard_tones=hard, low=1.0), pool, None, torch.device("cpu"))
        pretrainer.step(0, [0, 1, 2, 3, 4, 5])
        return pretrainer.memory["vectors"]

    assert torch.equal(remembered(hard=False), remembered(hard=False))
    assert not torch.equal(remembered(hard=False), remembered(hard=True))
    assert [recipe.hard_tones for recipe in TRAININGS] == [False, False, False, False, True]


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


def test_copies_are_told_apart_from_those_that_are_remembered() -> None:
    """Two more rows of equal similarity give ln 5 in place of ln 3; those that do not count give ln 3."""
    rows, remembered = torch.ones(4, 1), torch.ones(2, 1)
    for counted, expected in ((True, np.log(5)), (False, np.log(3))):
        negatives = remembered, torch.full((4, 2), not counted)
        loss = copy_loss(rows, torch.tensor([0, 0, 1, 1]), 0.05, negatives=negatives)
        assert loss.item() == pytest.approx(expected)


def test_koleo_looks_at_those_that_are_remembered() -> None:
    """The nearest may be one of them, unless it does not count: a right angle away in place of the other side."""
    rows, remembered = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for counted, expected in ((True, -np.log(2) / 2), (False, -np.log(2))):
        negatives = remembered, torch.full((2, 1), not counted)
        assert koleo_loss(rows, torch.tensor([0, 1]), negatives).item() == pytest.approx(expected)


def test_a_step_remembers_its_copies_and_no_more_than_it_may(pool: Pool) -> None:
    """The latest twenty vectors of twelve a step, with what they are copies of."""
    pretrainer = Pretrainer(RECIPE, pool, None, torch.device("cpu"))
    for step, subjects in enumerate(([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11])):
        pretrainer.step(step, subjects)
    assert pretrainer.memory["vectors"].shape == (20, tiny.WIDTH)
    assert pretrainer.memory["originals"].tolist() == [4, 5, 0, 1, 2, 3, 4, 5] + [*range(6, 12)] * 2


def test_a_share_of_the_way_is_kept(pool: Pool) -> None:
    """A quarter of what a step moved the projection."""
    pretrainer = Pretrainer(replace(RECIPE, share=0.25), pool, None, torch.device("cpu"))
    weight = pretrainer.model.visual_projection.weight
    first = weight.detach().clone()
    pretrainer.step(1, [0, 1, 2, 3, 4, 5])
    moved = weight.detach() - first
    pretrainer.keep_share()
    assert moved.abs().max() > 0
    torch.testing.assert_close(weight.detach(), first + moved / 4)


def test_what_copies_differ_in_weighs_less(pool: Pool) -> None:
    """After whitening the differences of exposures and of copies have more equal variances along all directions."""
    pretrainer = Pretrainer(replace(RECIPE, whitened=0.1), pool, None, torch.device("cpu"))
    rows = torch.tensor([rows[:2] for rows in pool.members]).T.flatten()

    def largest_share() -> float:
        first, second = pretrainer.searched_plain(pretrainer.pixels[rows], tiny.SIZE).chunk(2)
        variances = torch.linalg.svdvals(first - second).square()
        return float(variances[0] / variances.sum())

    before = largest_share()
    pretrainer.whiten()
    assert largest_share() < 0.9 * before


def test_what_the_first_weights_find_alike_is_kept(pool: Pool) -> None:
    """By their vectors of the undamaged pictures, also when the weights have moved."""
    recipe = replace(RECIPE, own_kept=True, lr=1e-2, warmup=1)
    pretrainer = Pretrainer(recipe, pool, None, torch.device("cpu"))
    plain = pictures(6).float()
    first = pretrainer.searched_plain(pictures(6), tiny.SIZE)
    pretrainer.step(0, [0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(pretrainer.kept(plain), first, atol=1e-5, rtol=0)
    assert not torch.allclose(pretrainer.searched_plain(pictures(6), tiny.SIZE), first, atol=1e-3)


def test_in_luminance_a_tint_changes_nothing() -> None:
    """A grey picture has the vector that it had, and a tint of equal luminance has it too."""
    model: Any = tiny.untrained(0)
    page = torch.rand(2, 1, 64, 64)
    tint = page + torch.tensor([0.114, 0.0, -0.299])[None, :, None, None]
    with torch.no_grad():
        expected = model.get_image_features(pixel_values=page.expand(-1, 3, -1, -1)).pooler_output
        tiny.in_luminance(model)
        for picture in (page.expand(-1, 3, -1, -1), tint):
            found = model.get_image_features(pixel_values=picture).pooler_output
            assert torch.allclose(found, expected, atol=1e-4)


def test_the_first_weights_are_those_of_the_file(tmp_path: Path) -> None:
    """By timm's names, whatever the file calls them; what is missing is one sentence."""
    trunk = tiny.untrained(1).vision_model.timm_model.state_dict()
    torch.save(
        {f"_{number}": tensor for number, tensor in enumerate(trunk.values())} | {"_fc.bias": torch.ones(3)},
        tmp_path / "w.pth",
    )
    found = tiny.untrained(2, tmp_path).vision_model.timm_model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in trunk.items())
    with pytest.raises(ArchiveError, match=r"no \.pth file"):
        tiny.untrained(2, tmp_path / "absent")


def trained_until(step: int, photos: Path, out: Path) -> tuple[list[str], dict[str, torch.Tensor]]:
    """A training that is stopped after a step: what it has said by then, and the weights that it has kept."""
    said: list[str] = []

    def stop(sentence: str) -> None:
        said.append(sentence)
        if sentence.startswith(f"step {step}"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain([photos], None, out, RECIPE, check=2, report=stop)
    (kept,) = (out / "state").glob("*/model.safetensors")
    return said, load_file(kept)


def test_a_killed_training_ends_like_any_other(photos: Path, tmp_path: Path) -> None:
    """Stopped after its first two steps, it goes on to the same weights; a plain dual encoder is what it writes."""
    _, whole = trained_until(4, photos, tmp_path / "whole")
    trained_until(2, photos, tmp_path / "killed")
    said, killed = trained_until(4, photos, tmp_path / "killed")
    assert "steps 2 to 4" in said[0]
    torch.testing.assert_close(killed, whole, rtol=0, atol=0)
    pretrain([photos], None, tmp_path / "killed", RECIPE, check=2)
    assert VisionTextDualEncoderModel.from_pretrained(tmp_path / "killed").config.projection_dim == tiny.WIDTH
    assert not (tmp_path / "killed" / "state").exists()


def test_training_lowers_the_loss(pool: Pool, tmp_path: Path) -> None:
    """Steps on the same copies of a few subjects, from a trunk whose batch norms know pictures."""
    trunk: Any = tiny.untrained(0).vision_model
    for norm in (part for part in trunk.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.momentum = None  # the plain mean
    with torch.no_grad():
        for _ in range(12):
            trunk.train()(pixel_values=pictures(8)[:, None, ::4, ::4].expand(-1, 3, -1, -1) / 127.5 - 1)
    torch.save(trunk.timm_model.state_dict(), tmp_path / "w.pth")
    recipe = replace(RECIPE, window=0.0, mild=0.1, low=0.0, steps=1000, warmup=1, lr=3e-4, koleo=0.0, likeness=0.0)
    pretrainer = Pretrainer(recipe, pool, tmp_path, torch.device("cpu"))
    losses = [pretrainer.step(1, [0, 1, 2, 3, 4, 5])["copies"] for _ in range(16)]
    assert sum(losses[-3:]) < 0.8 * 3 * losses[0], losses


def test_the_training_core_needs_no_more_than_a_borrowed_gpu_has() -> None:
    """Nothing of the servers, of sheets or of science beyond torch and transformers is imported."""
    absent = ["prefect", "mlflow", "pandas", "sklearn", "scipy", "imagehash", "optuna", "matplotlib"]
    absent += ["accelerate", "pydantic"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent!r})); import neardup.builtin.pretrain"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
