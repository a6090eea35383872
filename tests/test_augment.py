"""A photo's i-th copy is the same on any machine, in any order, and every damage leaves a photograph."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from neardup.augment import RECIPES, augment, classic, make_queries, write_augmented
from neardup.errors import ArchiveError
from neardup.images import read_image
from neardup.press import DAMAGES, press
from neardup.scenes import Scene
from neardup.trainingset import TrainingSet

PHOTO = Scene.of(5).image


def pixels(image: Image.Image) -> bytes:
    """What the picture shows."""
    return image.tobytes()


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_copy_is_its_seed(recipe: str) -> None:
    """Equal photo, number and seed: equal copy; any other: another copy."""
    first = pixels(augment(recipe, PHOTO, "photo", 1))
    others = [
        augment(recipe, PHOTO, "photo", 2),
        augment(recipe, PHOTO, "other", 1),
        augment(recipe, PHOTO, "photo", 1, 9),
    ]
    assert pixels(augment(recipe, PHOTO, "photo", 1)) == first
    assert first not in [pixels(other) for other in others]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_threads_and_order_do_not_matter(recipe: str) -> None:
    """Eight copies made by four threads are those made one after the other, the last first."""
    alone = {i: pixels(augment(recipe, PHOTO, "photo", i)) for i in reversed(range(8))}
    with ThreadPoolExecutor(4) as pool:
        together = dict(enumerate(pool.map(lambda i: pixels(augment(recipe, PHOTO, "photo", i)), range(8))))
    assert together == alone


def test_the_global_generator_is_left_alone() -> None:
    """Augmenting in between changes no other draw of torch."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    classic(PHOTO, 7)
    assert torch.cat([first, torch.rand(1)]).tolist() == expected.tolist()


def test_the_classic_recipe_flips_half_of_the_copies() -> None:
    """Size 256; of 200 copies of a picture that is dark on the left, about half are dark on the right."""
    picture = Image.new("RGB", (200, 200), "white")
    picture.paste("black", (0, 0, 100, 200))
    copies = [classic(picture, seed) for seed in range(200)]
    flipped = sum(np.asarray(copy)[128, 64].mean() > np.asarray(copy)[128, 192].mean() for copy in copies)
    assert ({copy.size for copy in copies}, 75 < flipped < 125) == ({(256, 256)}, True)


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_every_damage_leaves_a_photograph(name: str) -> None:
    """RGB of a size, not one tone, other than before, and the same again for the same draw."""
    damaged = DAMAGES[name](PHOTO, np.random.default_rng(1))
    assert (damaged.mode, min(damaged.size) > 100) == ("RGB", True)
    assert np.asarray(damaged).std() > 5
    assert pixels(damaged) != pixels(PHOTO)
    assert pixels(DAMAGES[name](PHOTO, np.random.default_rng(1))) == pixels(damaged)


@pytest.mark.parametrize("size", [(8, 8), (1, 30), (300, 9)])
def test_the_smallest_photo_survives_the_press(size: tuple[int, int]) -> None:
    """A scrap of a few pixels is damaged like any other."""
    scrap = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    assert all(press(scrap, seed).mode == "RGB" for seed in range(30))


def test_the_halftone_is_a_screen() -> None:
    """Hardly a middle tone is left, and the mean tone stays nearly what it was."""
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    printed = np.asarray(DAMAGES["halftone"](grey, np.random.default_rng(2)))[..., 0]
    assert ((printed < 60) | (printed > 195)).mean() > 0.6
    assert abs(printed.mean() - 128) < 15


def test_copies_on_disk(prepared: Path, tmp_path: Path) -> None:
    """`aug_<row>_<i>.jpg`, five a photo, listed with legend and source; a kept copy is not written anew."""
    (tmp_path / "training_set").symlink_to(prepared / "training_set")
    training = TrainingSet(TrainingSet.load(prepared).photos[:3])
    write_augmented(tmp_path, training, {}, "classic", 5, 0)
    folder = tmp_path / "train_dataset_aug"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"aug_{row}_{i}.jpg" for row in range(3) for i in range(5)
    )
    table = pd.read_excel(tmp_path / "df_training_aug.xlsx", engine="openpyxl")
    assert table["source"].tolist() == [photo.image_name for photo in training.photos for _ in range(5)]
    kept, gone = folder / "aug_0_0.jpg", folder / "aug_2_4.jpg"
    before, bytes_before = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    write_augmented(tmp_path, training, {}, "classic", 5, 0)
    assert (kept.stat().st_mtime_ns, gone.read_bytes()) == (before, bytes_before)


def test_another_recipe_replaces_the_copies(prepared: Path, tmp_path: Path) -> None:
    """Nothing of the first recipe stays behind."""
    (tmp_path / "training_set").symlink_to(prepared / "training_set")
    training = TrainingSet(TrainingSet.load(prepared).photos[:2])
    write_augmented(tmp_path, training, {}, "classic", 3, 0)
    write_augmented(tmp_path, training, {}, "press", 1, 0)
    assert sorted(p.name for p in (tmp_path / "train_dataset_aug").iterdir()) == ["aug_0_0.jpg", "aug_1_0.jpg"]


def test_queries_lie_beside_their_original(tmp_path: Path) -> None:
    """A photo and its four variants; a file that is no image is named, and the rest goes on."""
    (tmp_path / "new" / "deep").mkdir(parents=True)
    PHOTO.save(tmp_path / "new" / "deep" / "x.jpg")
    (tmp_path / "new" / "bad.jpg").write_bytes(b"")
    made = make_queries(tmp_path / "new", tmp_path / "queries")
    assert sorted(path.relative_to(tmp_path / "queries").as_posix() for path in made.written) == [
        "deep/x.jpg",
        "deep/x_color.jpg",
        "deep/x_flip.jpg",
        "deep/x_resize.jpg",
        "deep/x_rotate.jpg",
    ]
    assert made.unreadable == ((tmp_path / "new" / "bad.jpg", "the file is empty"),)


def test_the_flip_is_a_mirror(tmp_path: Path) -> None:
    """`_flip` shows the original the other way round."""
    (tmp_path / "new").mkdir()
    PHOTO.save(tmp_path / "new" / "x.png")
    make_queries(tmp_path / "new", tmp_path)
    mirrored = np.asarray(read_image(tmp_path / "x_flip.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT), dtype=int)
    assert np.abs(mirrored - np.asarray(PHOTO, dtype=int)).mean() < 4


def test_a_missing_folder_of_queries_is_one_sentence(tmp_path: Path) -> None:
    """It says what to name."""
    with pytest.raises(ArchiveError, match="is not a folder: name one that holds the new photos"):
        make_queries(tmp_path / "no", tmp_path / "out")
