"""A photo's i-th copy is the same on any machine, in any order, and every damage leaves a photograph."""

import io
import shutil
import struct
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from transformers import CLIPImageProcessor

from neardup.archive.trainingset import Caption, TrainingPhoto, TrainingSet
from neardup.builtin.scenes import Scene
from neardup.errors import ArchiveError
from neardup.images import read_image
from neardup.settings.schema import Recipe
from neardup.train.augment import RECIPES, augment, write_augmented
from neardup.train.batches import Example, Photos, TensorCache
from neardup.train.classic import SIDE, TORCHVISION, Draw, Reduced, draw
from neardup.train.press import DAMAGES, press, read_reduced
from neardup.train.variants import make_queries

PHOTO = Scene.of(5).image


def pixels(image: Image.Image) -> bytes:
    """What the picture shows."""
    return image.tobytes()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photo as a file."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    PHOTO.save(path, quality=90)
    return path


def copies(recipe: str, file: Path, numbers: Sequence[int], photo: str = "photo", seed: int = 0) -> list[bytes]:
    """What a photo's copies show."""
    return [pixels(copy) for copy in augment(recipe, file, photo, numbers, seed)]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_copy_is_its_seed(recipe: str, photo: Path) -> None:
    """Equal photo, number and seed: equal copy; any other: another copy."""
    first, second = copies(recipe, photo, [1, 2])
    others = copies(recipe, photo, [1], "other") + copies(recipe, photo, [1], seed=9)
    assert copies(recipe, photo, [1]) == [first]
    assert first not in [second, *others]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_threads_and_order_do_not_matter(recipe: str, photo: Path) -> None:
    """Eight copies made by four threads are those made one after the other of one decode, the last first."""
    alone = copies(recipe, photo, range(8)[::-1])[::-1]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: copies(recipe, photo, [i])[0], range(8)))
    assert together == alone


def test_the_global_generator_is_left_alone(photo: Path) -> None:
    """Augmenting in between changes no other draw of torch."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    Reduced.read(photo).copy(7)
    assert torch.cat([first, torch.rand(1)]).tolist() == expected.tolist()


def drawn_by_torchvision(size: tuple[int, int], seed: int) -> Draw:
    """What torchvision's own transforms draw, in the order of the recipe."""
    photo = torch.empty(1, size[1], size[0], device="meta")
    torch.manual_seed(seed)
    flip = bool(torch.rand(1) < 0.5)
    rotation, colours, crop = (transform.make_params([photo]) for transform in TORCHVISION.transforms[1:])
    names = ["brightness", "contrast", "saturation", "hue"]
    changes = [(names[i], colours[f"{names[i]}_factor"]) for i in colours["fn_idx"]]
    box = (crop["left"], crop["top"], crop["width"], crop["height"])
    return Draw(flip, rotation["angle"], tuple(changes), box)


@given(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), st.integers(0, 2**60))
def test_draws_are_torchvisions(size: tuple[int, int], seed: int) -> None:
    """Flip, angle, changes of colour and crop are those that torchvision draws, also where no crop fits."""
    assert draw(size, seed) == drawn_by_torchvision(size, seed)


@pytest.mark.parametrize(
    ("size", "mode", "ending", "difference", "psnr"),
    [
        ((500, 375), "L", "jpg", 0.5, 45),
        ((500, 375), "RGB", "jpg", 0.8, 42),
        ((3000, 2000), "RGB", "jpg", 1.5, 38),
        ((3000, 2000), "RGB", "bmp", 2.0, 34),
    ],
)
def test_copies_agree_with_torchvision(
    size: tuple[int, int], mode: str, ending: str, difference: float, psnr: float, tmp_path: Path
) -> None:
    """Over four photos the mean difference of 255 and the least PSNR (dB) keep to a bound."""
    differences, psnrs = [], []
    for seed in range(4):
        file = tmp_path / f"{seed}.{ending}"
        Scene.of(seed).image.convert(mode).resize(size, Image.Resampling.BICUBIC).save(file)
        torch.manual_seed(seed)
        expected = np.asarray(TORCHVISION(read_image(file)), dtype=float)
        error = np.asarray(Reduced.read(file).copy(seed), dtype=float) - expected
        differences.append(np.abs(error).mean())
        psnrs.append(10 * np.log10(255**2 / (error**2).mean()))
    assert (np.mean(differences) < difference, min(psnrs) > psnr) == (True, True)


@pytest.mark.parametrize(("ending", "shape"), [("jpg", (500, 750, 3)), ("bmp", (334, 500, 3))])
def test_a_scan_is_reduced(ending: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    """A JPEG is decoded at a quarter, of other formats a sixth is kept: no crop is then smaller than a copy."""
    file = tmp_path / f"scan.{ending}"
    PHOTO.resize((3000, 2000)).save(file)
    assert Reduced.read(file).pixels.shape == shape


def test_a_photo_on_its_side_is_copied_upright(tmp_path: Path) -> None:
    """Drawn for the size that a person sees, not for that of the file."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = PHOTO.resize((1200, 900))
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "sideways.png", exif=exif)
    picture.save(tmp_path / "upright.png")
    sideways, upright = (Reduced.read(tmp_path / f"{name}.png") for name in ("sideways", "upright"))
    assert (sideways.size, pixels(sideways.copy(1))) == ((1200, 900), pixels(upright.copy(1)))


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_a_photo_of_any_format_is_copied_upright(ending: str, tmp_path: Path) -> None:
    """Its copies are of the size that its pixels have: Pillow turns some formats by itself, others not."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = tmp_path / f"turned.{ending}"
    PHOTO.resize((800, 600)).save(file, exif=exif)
    turned = Reduced.read(file)
    assert (turned.size, turned.pixels.shape) == ((600, 800), (800, 600, 3))


@pytest.mark.parametrize(("kind", "value"), [(2, b"6\0\0\0"), (3, b"\x09\0\0\0")], ids=["text", "9"])
def test_an_odd_orientation_turns_no_copy(kind: int, value: bytes, tmp_path: Path) -> None:
    """A text in place of a number, or a number beyond 8: the photo is decoded as it lies, and copied so."""
    entry = struct.pack("<HHHI4s", 1, ExifTags.Base.Orientation, kind, 2 if kind == 2 else 1, value)
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry + bytes(4)
    PHOTO.resize((900, 600)).save(tmp_path / "odd.jpg", exif=exif)
    assert Reduced.read(tmp_path / "odd.jpg").size == (900, 600)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (300, 9)])
def test_the_smallest_photo_is_copied(size: tuple[int, int], tmp_path: Path) -> None:
    """A scrap of a few pixels becomes a copy like any other."""
    Image.new("RGB", size, "white").save(tmp_path / "scrap.png")
    scrap = Reduced.read(tmp_path / "scrap.png")
    assert {scrap.copy(seed).size for seed in range(30)} == {(SIDE, SIDE)}


def test_the_classic_recipe_flips_half_of_the_copies(tmp_path: Path) -> None:
    """Of 200 copies of a picture that is dark on the left, about half are dark on the right."""
    picture = Image.new("RGB", (200, 200), "white")
    picture.paste("black", (0, 0, 100, 200))
    picture.save(tmp_path / "x.png")
    made = [np.asarray(copy) for copy in augment("classic", tmp_path / "x.png", "photo", range(200))]
    flipped = sum(copy[128, 64].mean() > copy[128, 192].mean() for copy in made)
    assert 75 < flipped < 125


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
    """`aug_<row>_<i>.jpg`, five a photo, listed with legend, caption and source; a kept copy is not written anew."""
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
    write_augmented(tmp_path, training, {training.photos[0].legend: Caption("a king", "fr", "deepl")}, "classic", 5, 0)
    table = pd.read_excel(tmp_path / "df_training_aug.xlsx", engine="openpyxl")
    assert (table["caption"][0], kept.stat().st_mtime_ns) == ("a king", before)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_training_sees_the_copies_on_disk(recipe: str, photo: Path, tmp_path: Path) -> None:
    """In its third epoch training makes the copy that `write_augmented` wrote as number 2, what JPEG loses apart."""
    (tmp_path / "training_set").mkdir()
    shutil.copy(photo, tmp_path / "training_set" / "x.jpg")
    training = TrainingSet(
        (TrainingPhoto("x.jpg", "x.jpg", "photo", "a legend", "c", "s.xlsx", "S", 1, "", "", "0" * 16, "0" * 16),)
    )
    write_augmented(tmp_path, training, {}, recipe, 3, 0)
    unchanged = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    example = Example(photo, "photo", "a caption", "")
    photos = Photos([example], unchanged, Recipe(augmentation=recipe, copies=3), TensorCache(0))  # type: ignore[arg-type]
    [[pixels]] = photos.batches([[0]], photos.copy(3))
    saved = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(saved, "JPEG", quality=90)
    assert (tmp_path / "train_dataset_aug" / "aug_0_2.jpg").read_bytes() == saved.getvalue()


def test_another_recipe_or_seed_replaces_the_copies(prepared: Path, tmp_path: Path) -> None:
    """Nothing of the former one stays behind."""
    (tmp_path / "training_set").symlink_to(prepared / "training_set")
    training = TrainingSet(TrainingSet.load(prepared).photos[:2])
    write_augmented(tmp_path, training, {}, "classic", 3, 0)
    write_augmented(tmp_path, training, {}, "press", 1, 0)
    assert sorted(p.name for p in (tmp_path / "train_dataset_aug").iterdir()) == ["aug_0_0.jpg", "aug_1_0.jpg"]
    before = (tmp_path / "train_dataset_aug" / "aug_0_0.jpg").read_bytes()
    write_augmented(tmp_path, training, {}, "press", 1, 1)
    assert (tmp_path / "train_dataset_aug" / "aug_0_0.jpg").read_bytes() != before


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


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "a.png", "a_flip.jpg"],
        ["A.jpg", "a.jpg"],
        ["a~2.jpg", "a.png", "a.jpg"],
        ["é.jpg", "e\u0301.jpg"],
        [f"{'é' * 123}{end}.jpg" for end in "abc"],
    ],
)
def test_every_query_keeps_a_name_of_its_own(names: list[str], tmp_path: Path) -> None:
    """Photos of one stem, or named like a variant of another, lose no picture, on no disk."""
    (tmp_path / "new").mkdir()
    for name in names:
        PHOTO.resize((40, 30)).save(tmp_path / "new" / name)
    made = make_queries(tmp_path / "new", tmp_path / "queries")
    assert len({unicodedata.normalize("NFC", path.name).casefold() for path in made.written}) == 5 * len(names)
    assert sorted((tmp_path / "queries").iterdir()) == sorted(made.written)


def test_a_bad_entry_among_new_photos_is_named(tmp_path: Path) -> None:
    """A link to nothing is named with its reason, and the rest goes on."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "gone.jpg").symlink_to(tmp_path / "nothing")
    PHOTO.save(tmp_path / "new" / "x.jpg")
    made = make_queries(tmp_path / "new", tmp_path / "queries")
    reason = "it is a link to a file that is not there"
    assert (len(made.written), made.unreadable) == (5, ((tmp_path / "new" / "gone.jpg", reason),))


def test_a_new_photo_that_no_jpeg_can_hold_is_named(tmp_path: Path) -> None:
    """It is left out with all its variants, and the rest goes on."""
    (tmp_path / "new").mkdir()
    Image.new("L", (66_000, 40), 128).save(tmp_path / "new" / "wide.png")
    PHOTO.save(tmp_path / "new" / "x.jpg")
    made = make_queries(tmp_path / "new", tmp_path / "queries")
    [(file, reason)] = made.unreadable
    assert (file.name, made.photos, len(made.written)) == ("wide.png", ("x.jpg",), 5)
    assert reason.startswith("no JPEG can have 66000 x 40 pixels")
    assert sorted((tmp_path / "queries").iterdir()) == sorted(made.written)


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


@pytest.mark.parametrize("caption", ["", "a king"])
def test_a_damaged_copy_is_made_anew(prepared: Path, tmp_path: Path, caption: str) -> None:
    """After a finished run half a file is not taken for a copy, though the captions are others; whole ones stay."""
    (tmp_path / "training_set").symlink_to(prepared / "training_set")
    training = TrainingSet(TrainingSet.load(prepared).photos[:2])
    write_augmented(tmp_path, training, {}, "classic", 2, 0)
    broken, kept = (tmp_path / "train_dataset_aug" / f"aug_0_{i}.jpg" for i in range(2))
    whole, before = broken.read_bytes(), kept.stat().st_mtime_ns
    broken.write_bytes(whole[: len(whole) // 2])
    captions = {training.photos[0].legend: Caption(caption, "fr", "deepl")} if caption else {}
    write_augmented(tmp_path, training, captions, "classic", 2, 0)
    assert (broken.read_bytes(), kept.stat().st_mtime_ns) == (whole, before)


@pytest.mark.parametrize("size", [(65_501, 2), (2, 65_501)])
def test_a_picture_that_no_jpeg_can_have_is_passed_through_none(size: tuple[int, int]) -> None:
    """A strip of so many pixels is copied all the same, with the other damages."""
    strip = Image.new("RGB", size, "gray")
    assert DAMAGES["jpeg"](strip, np.random.default_rng(0)) is strip


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_press_damages_a_scan_at_the_size_of_a_photo(tmp_path: Path, suffix: str) -> None:
    """Whatever its format, dots are of pixels that an encoder still sees; a photo below four times its side stays."""
    large, small = (tmp_path / f"{name}.{suffix}" for name in ("large", "small"))
    PHOTO.resize((2400, 1800)).save(large)
    PHOTO.resize((1000, 895)).save(small)
    assert read_reduced(large, 10**7, 224).size == (600, 450)
    assert pixels(read_reduced(small, 10**7, 224)) == pixels(read_image(small))
    [copy] = augment("press", large, "photo", [0])
    assert min(copy.size) < 4 * 256 * 1.2
