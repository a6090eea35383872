"""Score normalisation: the appended number, the encoder that has it, and how a training fits it and keeps it or not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from small_clip import small_clip
from test_train import make_examples
from tiny_models import PROJECTED, encoder_of, pixels_model

from neardup.approach import Approach, validation_gain
from neardup.archive.testset import TestSet
from neardup.builtin.scenes import Scene
from neardup.detect.duplicates import find_duplicates
from neardup.encode.background import BACKGROUND, Background, NormalisedEncoder
from neardup.encode.encoder import BUILTIN, CHECKPOINT, load_encoder, objectives_of
from neardup.encode.onnx_file import prepared as prepared_onnx
from neardup.encode.trainable import load_trainable, save_encoder
from neardup.encode.vectors import embed
from neardup.errors import EncoderError, UnreadableImageError
from neardup.experiment import encode_test_set, evaluate_approach, make_checkpoint, training_facts
from neardup.search.nearest import search
from neardup.settings.schema import AdaptRecipe, OnnxSettings, Settings
from neardup.train.batches import Example, KnownPairs
from neardup.train.data import TrainingData
from neardup.train.epochs import Share, normalised
from neardup.train.finetune import train
from neardup.train.interpolate import gains
from neardup.train.normalise import MOST, choose_background, fit, is_better_background, normalise_untrained
from neardup.train.validation import NearDuplicates as SearchedCopies
from neardup.train.validation import SearchScore

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = replace(AdaptRecipe(), batch_size=8, epochs=1, epoch_steps=1, validation=0.25, validation_copies=1)
RECIPE = replace(QUICK, normalise=True)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(count: int, width: int, seed: int) -> np.ndarray:
    """Unit rows, drawn."""
    return unit(np.random.default_rng(seed).standard_normal((count, width)))


def test_the_appended_number_is_what_the_formula_says() -> None:
    """One less the mean cosine to the three nearest, and the whole of length 1 again."""
    background = Background.of(unit(np.array([[3, 4], [0, 1], [4, 3], [-1, 0]])))
    [vector] = background.appended(np.array([[1, 0]], np.float32))
    appended = 1 - (0.6 + 0.0 + 0.8) / 3
    np.testing.assert_allclose(vector, np.array([1, 0, appended]) / np.hypot(1, appended), atol=2e-4)


def test_the_weight_of_the_number_and_the_photos_that_count_are_its_own() -> None:
    """Half the weight adds half the number; a background of two photos has no third nearest."""
    few = Background.of(unit(np.array([[3, 4], [0, 1]])))
    [vector] = replace(few, gamma=0.5).appended(np.array([[1, 0]], np.float32))
    appended = 0.5 * (1 - (0.6 + 0.0) / 2)
    np.testing.assert_allclose(vector, np.array([1, 0, appended]) / np.hypot(1, appended), atol=2e-4)


def test_a_photo_that_is_like_many_is_no_longer_nearest() -> None:
    """A photo's copy comes before a photo that resembles it more, and all of the background as well."""
    photo, copy, many = unit(np.array([[1, 0, 0], [0.7, 0, 0.714], [0.74, 0.6725, 0]]))
    background = Background.of(unit(np.array([[0.6, 0.8, 0], [0.55, 0.8, 0.1], [0.5, 0.8, 0.0]])))
    assert photo @ many > photo @ copy
    photo, copy, many = background.appended(np.stack([photo, copy, many]))
    assert photo @ copy > photo @ many


def test_photos_that_are_left_out_do_not_count() -> None:
    """A photo is normalised as by a background that lacks what it shows."""
    rows, vectors = drawn(9, 16, 0), drawn(2, 16, 1)
    left_out = np.zeros((2, 9), dtype=bool)
    left_out[0, [1, 4]] = left_out[1, 3:6] = True
    expected = [
        Background.of(rows[~out]).appended(vector[None])[0] for out, vector in zip(left_out, vectors, strict=True)
    ]
    np.testing.assert_array_equal(Background.of(rows).appended(vectors, left_out), expected)


def test_a_vector_is_the_same_in_any_company() -> None:
    """To the last bit, as the vectors of every encoder are."""
    background, vectors = Background.of(drawn(50, 16, 0)), drawn(9, 16, 1)
    alone = np.concatenate([background.appended(vectors[i : i + 1]) for i in range(9)])
    np.testing.assert_array_equal(background.appended(vectors), alone)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Numbers and digest; another photo, or another weight, is another digest."""
    background = Background.of(drawn(5, 8, 0))
    background.save(tmp_path)
    loaded = Background.load(tmp_path)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.appended(drawn(4, 8, 1)), background.appended(drawn(4, 8, 1)))
    others = replace(background, gamma=0.5), replace(background, neighbours=2), Background.of(drawn(5, 8, 1))
    assert len({one.digest for one in (loaded, background, *others)}) == 4
    others[0].save(tmp_path)
    read = Background.load(tmp_path)
    others[1].save(tmp_path)
    assert [one and (one.neighbours, one.gamma) for one in (read, Background.load(tmp_path))] == [(3, 0.5), (2, 1.0)]
    assert Background.load(tmp_path / "nowhere") is None


@pytest.fixture(scope="module")
def plain_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped encoder without the background that it comes with."""
    folder = tmp_path_factory.mktemp("plain") / "checkpoint"
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns(BACKGROUND))
    return folder


@pytest.fixture(scope="module")
def checkpoint(plain_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped encoder with a background of drawn vectors."""
    folder = tmp_path_factory.mktemp("normalised") / "checkpoint"
    shutil.copytree(plain_checkpoint, folder)
    Background.of(drawn(20, load_encoder(str(folder)).dimension, 0)).save(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of noise, and a copy of the first."""
    folder, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name in "abc":
        pixels = draws.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    Image.open(folder / "a.png").save(folder / "d.jpg", quality=80)
    return folder


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "fp32"), ("cpu", "int8")])
def test_an_encoder_appends_the_number(
    plain_checkpoint: Path, checkpoint: Path, photos: Path, device: str, dtype: str
) -> None:
    """By ONNX Runtime and in int8; the fingerprint is another one, that of the weights and the background."""
    plain, normalised = (load_encoder(name, device, dtype) for name in (str(plain_checkpoint), str(checkpoint)))
    images = [Image.open(photos / f"{name}.png").convert("RGB") for name in "ab"]
    background = Background.load(checkpoint)
    assert background is not None
    np.testing.assert_array_equal(normalised.encode(images), background.appended(plain.encode(images)))
    assert normalised.encode(images).shape == (2, normalised.dimension) == (2, plain.dimension + 1)
    assert normalised.fingerprint not in {plain.fingerprint, load_encoder(str(plain_checkpoint)).fingerprint}


def test_another_background_is_another_encoder(plain_checkpoint: Path) -> None:
    """Its vectors are others, so that none of them may be taken for those of the first."""
    plain = load_encoder(str(plain_checkpoint), "cpu")
    backgrounds = [Background.of(drawn(6, plain.dimension, seed)) for seed in (0, 1)]
    assert len({plain.fingerprint, *(NormalisedEncoder(plain, one).fingerprint for one in backgrounds)}) == 3


def test_a_background_of_many_files_is_drawn_by_its_seed(plain_checkpoint: Path, photos: Path) -> None:
    """The same files for the same seed, and no more of them than were asked for."""
    encoder, files = load_encoder(str(plain_checkpoint), "cpu"), sorted(photos.iterdir())
    drawn = [Background.fitted(encoder, files, 2, seed) for seed in (0, 0, 1, 2, 3)]
    assert {len(one.vectors) for one in drawn} == {2}
    assert (drawn[0].digest == drawn[1].digest, len({one.digest for one in drawn}) > 1) == (True, True)


def test_batch_and_limit_are_those_of_the_encoder(checkpoint: Path, photos: Path) -> None:
    """A normalised encoder computes in its passes, and refuses what it refuses."""
    encoder = load_encoder(str(checkpoint), "cpu")
    assert isinstance(encoder, NormalisedEncoder)
    encoder.batch = 3
    assert (encoder.batch, encoder._encoder.batch) == (3, 3)
    with pytest.raises(UnreadableImageError, match="over the limit of 100"):
        encoder.read(photos / "a.png", 100)


def test_torch_and_onnx_runtime_have_one_fingerprint(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    """And the same vectors, but for rounding."""
    bare = tmp_path / "bare"
    shutil.copytree(checkpoint, bare)
    (bare / "vision.onnx").unlink()
    by_torch, by_onnx = load_encoder(str(bare), "cpu"), load_encoder(str(checkpoint), "cpu")
    assert by_torch.fingerprint == by_onnx.fingerprint
    pictures = [[one.encode([one.read(photos / "a.png")]) for one in (by_torch, by_onnx)]]
    np.testing.assert_allclose(*pictures[0], atol=1e-5)


def test_a_copy_is_found(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    """By a search, and among the near-duplicates of a folder, as by brute force."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    gallery = embed(folder, load_encoder(str(checkpoint)), tmp_path / "store")
    hits = search(folder / "a.png", gallery, 2, encoder=str(checkpoint))
    assert [(Path(hit.path).name, hit.itself) for hit in hits] == [("a.png", True), ("d.jpg", False)]
    rows = {Path(path).name: vector for path, vector in zip(gallery.paths, gallery.vectors, strict=True)}
    assert hits[1].similarity == pytest.approx(float(rows["a.png"] @ rows["d.jpg"]), abs=1e-6)
    found = find_duplicates(folder, hits[1].similarity - 1e-6, str(checkpoint), device="cpu")
    assert [[Path(found.paths[i]).name for i in group] for group in found.groups] == [["a.png", "d.jpg"]]


def test_a_saved_encoder_is_the_same_one(plain_checkpoint: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Zero-shot of an experiment that begins from it; a training leaves the background behind."""
    save_encoder(str(checkpoint), tmp_path / "saved")
    assert load_encoder(str(tmp_path / "saved")).fingerprint == load_encoder(str(checkpoint)).fingerprint
    assert objectives_of(str(checkpoint)) == objectives_of(BUILTIN)
    load_trainable(str(checkpoint)).save(tmp_path / "trained")
    assert load_encoder(str(tmp_path / "trained")).fingerprint == load_encoder(str(plain_checkpoint)).fingerprint


def test_an_encoder_may_be_saved_where_it_lies(checkpoint: Path, tmp_path: Path) -> None:
    """As by an experiment that begins from a checkpoint of its own results: the background stays."""
    save_encoder(str(checkpoint), tmp_path / "saved")
    save_encoder(str(tmp_path / "saved"), tmp_path / "saved")
    assert load_encoder(str(tmp_path / "saved")).fingerprint == load_encoder(str(checkpoint)).fingerprint


def test_nothing_is_left_of_the_encoder_that_was_saved_before(checkpoint: Path, tmp_path: Path) -> None:
    """MLflow would keep, and a team download, the weights of both."""
    file = str(pixels_model(tmp_path / "pixels.onnx"))
    for name, folder in ((str(checkpoint), "saved"), (file, "saved"), (file, "alone")):
        save_encoder(name, tmp_path / folder)
    saved, alone = (sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("saved", "alone"))
    assert saved == alone


def test_a_background_of_another_encoder_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """In one sentence; so is a broken file."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    Background.of(drawn(4, 7, 0)).save(folder)
    with pytest.raises(EncoderError, match=r"is of another encoder \(its vectors have 7 numbers"):
        load_encoder(str(folder))
    save_file({"rows": drawn(2, 3, 0)}, folder / BACKGROUND)
    with pytest.raises(EncoderError, match="copy the whole checkpoint again"):
        load_encoder(str(folder))
    (folder / BACKGROUND).write_bytes(b"no tensors")
    with pytest.raises(EncoderError, match="copy the whole checkpoint again"):
        load_encoder(str(folder))


@pytest.fixture(scope="module")
def adapted(prepared: Path, small_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Approach:
    """The approach `adapted` of a small model, trained by one step."""
    out = tmp_path_factory.mktemp("adapted") / "results"
    shutil.copytree(prepared, out)
    settings = Settings(encoder=small_encoder, adapt=RECIPE, verify=False)
    approach = Approach("adapted", out, settings, load_encoder(small_encoder).fingerprint)
    make_checkpoint(approach, lambda _: None)
    return approach


def test_a_training_keeps_what_validation_says(adapted: Approach) -> None:
    """The file lies in the checkpoint exactly where it gains; the report says what it gained."""
    facts = json.loads((adapted.folder / "training.json").read_text(encoding="utf-8"))["facts"]
    start = Share(0.0, facts["plain_ndcg"], facts["plain_micro_ap"])
    end = Share(1.0, facts["normalised_ndcg"], facts["normalised_micro_ap"], facts["normalised_ndcg_error"])
    kept = (adapted.folder / "checkpoint" / BACKGROUND).is_file()
    assert (kept, facts["normalised"]) == (gains(end, start),) * 2
    assert facts["validation_ndcg"] == (facts["normalised_ndcg"] if kept else pytest.approx(facts["plain_ndcg"]))
    assert facts["background_photos"] == min(MOST, facts["training_photos"])
    sentence = training_facts([adapted])["adapted learned from"]
    assert f"normalised by {facts['background_photos']} training photos" in sentence
    assert f"{100 * facts['plain_ndcg']:.2f} → {100 * facts['normalised_ndcg']:.2f} %" in sentence


def test_an_approach_with_a_background_is_measured_and_served(adapted: Approach, tmp_path: Path) -> None:
    """Its fingerprint is the normalised encoder's, in the evaluation and in the model that MLflow serves."""
    import pandas as pd  # noqa: PLC0415 - for MLflow's model
    from mlflow.pyfunc.model import PythonModelContext  # noqa: PLC0415 - MLflow takes seconds

    from tasks.pyfunc import NearDuplicates  # noqa: PLC0415 - MLflow takes seconds

    out = tmp_path / "results"
    shutil.copytree(adapted.out, out)
    approach = replace(adapted, out=out)
    checkpoint = approach.folder / "checkpoint"
    plain = load_trainable(str(checkpoint)).encoder("cpu")
    Background.of(drawn(6, plain.dimension, 0)).save(checkpoint)
    encode_test_set(approach)
    evaluate_approach(approach)
    encoder = load_encoder(str(checkpoint))
    metrics = json.loads((approach.folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["fingerprint"] == encoder.fingerprint != plain.fingerprint
    artifacts = {
        "checkpoint": str(checkpoint),
        "metrics": str(approach.folder / "metrics.json"),
        "gallery": str(approach.folder / "vectors.parquet"),
    }
    served, context = NearDuplicates(), PythonModelContext(artifacts, {})
    served.load_context(context)
    photo = TestSet.load(out).photos[0]
    images = pd.DataFrame({"image": [(out / "test_dataset" / photo.name).read_bytes()]})
    [hits] = served.predict(context, images, {"top": 1})
    assert hits[0]["path"] == photo.path
    assert served.predict(context, images).shape == (1, encoder.dimension)


def zero_shot(encoder: str, out: Path, **settings: Any) -> Approach:
    """The approach zero-shot of an encoder in an output folder, with `normalise` of `[adapt]` on."""
    given = Settings(encoder=encoder, adapt=RECIPE, verify=False, **settings)
    return Approach("zero-shot", out, given, load_encoder(encoder).fingerprint)


@pytest.fixture(scope="module", params=["checkpoint", "onnx"])
def untrained(
    request: pytest.FixtureRequest, prepared: Path, small_encoder: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Approach, list[str]]:
    """The approach zero-shot of a small model and of an ONNX file, and what was reported when it was made."""
    folder, said = tmp_path_factory.mktemp("untrained"), []
    shutil.copytree(prepared, folder / "results")
    encoder = small_encoder if request.param == "checkpoint" else str(pixels_model(folder / "pixels.onnx"))
    approach = zero_shot(encoder, folder / "results")
    make_checkpoint(approach, said.append)
    return approach, said


def test_the_untrained_encoder_is_normalised_where_validation_says_so(untrained: tuple[Approach, list[str]]) -> None:
    """By the rule of a training, on photos that are not the test set's; log and report say what it gained."""
    approach, said = untrained
    facts = (approach.checkpoint.read() or {})["facts"]
    start = Share(0.0, facts["plain_ndcg"], facts["plain_micro_ap"])
    end = Share(1.0, facts["normalised_ndcg"], facts["normalised_micro_ap"], facts["normalised_ndcg_error"])
    kept, checkpoint = gains(end, start), str(approach.folder / "checkpoint")
    assert facts["normalised"] == (Path(checkpoint) / BACKGROUND).is_file() == kept
    assert (load_encoder(checkpoint).fingerprint != approach.base) == kept
    assert said == [training_facts([approach])["zero-shot"]]
    assert f"normalised by {facts['background_photos']} training photos" in said[0]
    gain = facts["normalised_ndcg"] - facts["plain_ndcg"], facts["normalised_micro_ap"] - facts["plain_micro_ap"]
    assert validation_gain(approach) == (pytest.approx(gain) if kept else (0.0, 0.0))


def test_an_untrained_encoder_is_judged_as_the_one_that_is_adapted(adapted: Approach) -> None:
    """By the same copies of the same validation photos: what it finds is what was found before the training."""
    approach = zero_shot(adapted.settings.encoder, adapted.out)
    make_checkpoint(approach, lambda _: None)
    facts = [(each.checkpoint.read() or {})["facts"] for each in (approach, adapted)]
    for name in ("validation_ndcg_before", "validation_micro_ap_before", "background_photos"):
        assert facts[0][name] == pytest.approx(facts[1][name], abs=1e-6)


@pytest.mark.parametrize("kind", ["onnx", "vit", "script"])
def test_a_background_serves_every_kind_of_encoder(kind: str, photos: Path, tmp_path: Path) -> None:
    """Saved beside it, it is part of its fingerprint, in fp32 and saved once more; exact search finds as before."""
    folder = tmp_path / "checkpoint"
    save_encoder(encoder_of(kind, tmp_path), folder)
    plain = load_encoder(str(folder))
    Background.of(drawn(9, plain.dimension, 0)).save(folder)
    encoder = load_encoder(str(folder))
    assert (encoder.dimension, encoder.size) == (plain.dimension + 1, plain.size)
    save_encoder(str(folder), tmp_path / "again")
    assert load_encoder(str(tmp_path / "again")).fingerprint == encoder.fingerprint != plain.fingerprint
    gallery = embed(photos, encoder, tmp_path / "store")
    hits = search(photos / "a.png", gallery, 2, encoder=str(folder))
    assert [Path(hit.path).name for hit in hits] == ["a.png", "d.jpg"]


def test_settings_of_an_onnx_file_leave_its_background_where_it_is(tmp_path: Path) -> None:
    """`[onnx]` of neardup.toml, which made the encoder, still stands there when its checkpoint is named."""
    half = (0.5, 0.5, 0.5)
    save_encoder(str(pixels_model(tmp_path / "pixels.onnx")), tmp_path / "checkpoint")
    Background.of(drawn(4, PROJECTED, 0)).save(tmp_path / "checkpoint")
    name = prepared_onnx(str(tmp_path / "checkpoint"), OnnxSettings(mean=half, std=half), tmp_path / "models", print)
    assert load_encoder(name).fingerprint == load_encoder(str(tmp_path / "checkpoint")).fingerprint


def test_an_encoder_keeps_the_background_that_it_came_with(checkpoint: Path, prepared: Path, tmp_path: Path) -> None:
    """It is part of what was named; one sentence says so."""
    said: list[str] = []
    shutil.copytree(prepared, tmp_path / "results")
    approach = zero_shot(str(checkpoint), tmp_path / "results")
    assert make_checkpoint(approach, said.append)["facts"] == {}
    assert said == ["similarities are normalised by the background that the encoder came with"]
    assert load_encoder(str(approach.folder / "checkpoint")).fingerprint == approach.base


def test_without_photos_to_fit_it_the_untrained_encoder_stays_as_it_is(small_encoder: str, tmp_path: Path) -> None:
    """An archive that is all test set is no reason to stop; the sentence says how many others there are."""
    said: list[str] = []
    save_encoder(small_encoder, tmp_path / "checkpoint")
    one = make_examples(tmp_path / "photos", 1)
    given = {"known": KnownPairs(), "bits": 6, "device": "cpu", "say": said.append}
    assert normalise_untrained(tmp_path / "checkpoint", one, RECIPE, **given) == {}
    assert said == ["similarities are not normalised: the archive has 1 photos that look unlike the test set's"]
    assert load_encoder(str(tmp_path / "checkpoint")).fingerprint == load_encoder(small_encoder).fingerprint


def test_what_normalises_the_untrained_encoder_is_part_of_its_stage(prepared: Path, small_encoder: str) -> None:
    """It is made again where the setting, a seed or the distractors are others; not where a learning rate is."""
    on = zero_shot(small_encoder, prepared)
    off = replace(on, settings=replace(on.settings, adapt=QUICK))
    others = [replace(RECIPE, seed=1), replace(RECIPE, lr=0.1)]
    keys = [replace(on, settings=replace(on.settings, adapt=adapt)).checkpoint.key for adapt in others]
    more = replace(on, settings=replace(on.settings, distractors=3)).checkpoint.key
    assert len({on.checkpoint.key, off.checkpoint.key, keys[0], more}) == 4
    assert keys[1] == on.checkpoint.key
    assert replace(on, settings=replace(on.settings, transductive=True)).checkpoint.key == off.checkpoint.key


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """Then nothing is fitted, and nothing is said of it."""
    examples = [replace(one, caption="") for one in make_examples(tmp_path / "photos", 12)]
    reports: list[str] = []
    off = replace(RECIPE, normalise=False)
    training = train(examples, small_clip(), off, tmp_path / "off", report=reports.append)
    assert "normalised" not in training.facts
    assert not any("normalised" in line for line in reports)
    assert not (training.checkpoint / BACKGROUND).exists()


def test_no_photo_that_is_validated_on_is_in_the_background(tmp_path: Path) -> None:
    """It would be its own nearest neighbour, and the gain would be false."""
    examples = [replace(one, caption="") for one in make_examples(tmp_path / "photos", 12)]
    model = small_clip()
    model.save(tmp_path / "checkpoint")
    data = TrainingData.of(examples, model, RECIPE, 6, KnownPairs())
    photos = [examples[row] for row in data.parts.training]
    found = fit(tmp_path / "checkpoint", photos, data.near_duplicates(), 0, "cpu")
    assert found.background_photos == 12 - len(data.parts.validation)


@pytest.mark.parametrize(
    ("changes", "kept", "photos"),
    [
        ({}, "as it came", 12),
        ({"interpolate": False}, "anew", 9),
        ({"interpolate": False, "normalise": False}, "", None),
    ],
)
def test_what_came_normalised_stays_normalised(  # 12 photos are too few to bear another background
    changes: dict[str, Any], kept: str, photos: int | None, tmp_path: Path
) -> None:
    """The background stays where no weight has changed, and is fitted anew where they have, or none is."""
    examples = [replace(one, caption="") for one in make_examples(tmp_path / "photos", 12)]
    small_clip().save(tmp_path / "start")
    came = Background.of(drawn(6, load_encoder(str(tmp_path / "start")).dimension, 0))
    came.save(tmp_path / "start")
    recipe = replace(RECIPE, **{"normalise": None, "lr": 1e-12, **changes})
    reports: list[str] = []
    training = train(examples, str(tmp_path / "start"), recipe, tmp_path / "out", report=reports.append)
    background = Background.load(training.checkpoint)
    assert ("as it came" if background and background.digest == came.digest else "anew" if background else "") == kept
    assert training.facts.get("background_photos") == photos
    assert any("as those of the encoder were" in line for line in reports) == (kept == "anew")


def test_photos_of_the_archive_take_the_place_of_a_worse_background(plain_checkpoint: Path, tmp_path: Path) -> None:
    """One that holds half of the photos themselves, and so tells them from their copies, gives way, with its weight."""
    examples = []
    for seed in range(40):
        Scene.of(seed).image.resize((160, 120)).save(tmp_path / f"{seed}.png")
        examples.append(Example(tmp_path / f"{seed}.png", f"{seed:064x}", "", ""))
    model, folder = load_trainable(BUILTIN), tmp_path / "checkpoint"
    shutil.copytree(plain_checkpoint, folder)
    plain = load_encoder(str(folder))
    half = Background.fitted(plain, [example.image for example in examples[::2]], len(examples), RECIPE.seed)
    came = replace(half, gamma=1.3, neighbours=1)
    data = TrainingData.of(examples, model, RECIPE, 6, KnownPairs())
    facts, kept = choose_background(folder, data, came, "cpu"), Background.load(folder)
    order = np.random.default_rng(RECIPE.seed).permutation(len(examples))
    photos = Background.fitted(plain, [examples[row].image for row in order], len(order), RECIPE.seed)
    assert kept is not None
    assert (facts["background_taken"], kept.digest) == (
        True,
        replace(photos, gamma=came.gamma, neighbours=came.neighbours).digest,
    )
    assert facts["background_micro_ap"] > facts["background_micro_ap_before"]
    near = SearchedCopies(examples, range(len(examples)), RECIPE, data.known, data.bits)
    vectors = near.encoded(plain)
    fitted = replace(Background.of(vectors[order]), gamma=came.gamma, neighbours=came.neighbours)
    others = [np.flatnonzero(order != row % len(order)) for row in range(len(vectors))]
    normalised_by_others = [
        replace(fitted, vectors=fitted.vectors[kept_rows]).appended(vector[None])
        for vector, kept_rows in zip(vectors, others, strict=True)
    ]
    expected = near.search(np.concatenate(normalised_by_others))
    assert (facts["background_ndcg"], facts["background_micro_ap"]) == pytest.approx(
        (expected.ndcg, expected.micro_ap), abs=1e-6
    )
    assert "in place of those that the encoder came with" in normalised(facts)


def measured(ndcg: float, micro_ap: float, spread: float) -> SearchScore:
    """What a search of four pictures found; each differs by `spread` from the mean, up and down in turn."""
    turns = np.array([1, -1, 1, -1]) * spread
    return SearchScore(ndcg, micro_ap, tuple(ndcg + turns), tuple(micro_ap + turns))


@pytest.mark.parametrize(
    ("gained", "lost", "better"), [(0.0030, 0.0, False), (0.0040, 0.0, True), (0.0040, 0.0007, False)]
)
def test_a_background_is_better_where_chance_explains_no_gain(gained: float, lost: float, *, better: bool) -> None:
    """µAP gains more than two of its standard errors, of .0017 here, and nDCG loses no more than one, of .0006."""
    before, after = measured(0.9, 0.8, 0.0), measured(0.9 - lost, 0.8 + gained, 0.001)
    assert after.micro_ap_gain_error(before) == pytest.approx(0.001 * 3**0.5)
    assert after.gain_error(before) == pytest.approx(0.001 / 3**0.5)
    assert is_better_background(after, before) == better


def test_what_another_background_gains_counts_for_the_challenger(prepared: Path, tmp_path: Path) -> None:
    """Where no weight has changed, nothing else tells such a model from the untrained one."""
    shutil.copytree(prepared, tmp_path / "out")
    approach = Approach("adapted", tmp_path / "out", Settings(encoder=BUILTIN), load_encoder(BUILTIN).fingerprint)
    found = {"background_ndcg": 0.9, "background_ndcg_before": 0.8, "background_micro_ap": 0.7}
    for taken, gain in ((True, (0.1, 0.2)), (False, (0.0, 0.0))):
        approach.checkpoint.finish([], {**found, "background_micro_ap_before": 0.5, "background_taken": taken})
        assert validation_gain(approach) == pytest.approx(gain)


def test_another_background_is_another_training(tmp_path: Path) -> None:
    """What is kept may depend on it, so that a finished training with another one is not taken for done."""
    examples = [replace(one, caption="") for one in make_examples(tmp_path / "photos", 12)]
    model = small_clip()
    backgrounds = [None, Background.of(drawn(6, 8, 0)), Background.of(drawn(6, 8, 1))]
    keys = {
        TrainingData.of(examples, replace(model, background=one), RECIPE, 6, KnownPairs()).key for one in backgrounds
    }
    assert len(keys) == len(backgrounds)


def test_photos_of_the_test_set_normalise_nothing(adapted: Approach) -> None:
    """Where they are trained on, nothing is fitted, for the background would hold what is searched."""
    transductive = replace(adapted, settings=replace(adapted.settings, transductive=True))
    recipes = adapted.recipe, transductive.recipe
    assert [recipe and recipe.normalise for recipe in recipes] == [True, False]
