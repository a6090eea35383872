"""A photo that is over the default limit is used everywhere, once `prepare.max_pixels` is raised."""

import inspect
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType

import pytest
from click.testing import CliRunner
from PIL import Image

from neardup.approach import Approach
from neardup.archive.captions import load_captions, translate_training_set
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.cli import main
from neardup.detect.explain import explain_files
from neardup.encode.devices import cpu_has_bf16
from neardup.encode.encoder import load_encoder
from neardup.encode.vectors import embed, embed_test_set
from neardup.errors import UnreadableImageError
from neardup.experiment import compare_approaches, encode_test_set, evaluate_approach, make_checkpoint
from neardup.images import MAX_PIXELS, read_image
from neardup.measure.low_precision import measure
from neardup.search.nearest import search
from neardup.settings.schema import PrepareSettings, Recipe, Settings, TranslateSettings
from neardup.train.augment import write_augmented
from neardup.train.batches import KnownPairs
from neardup.train.examples import training_examples
from neardup.train.validation import NearDuplicates
from neardup.tuning import Tuning, make_start

SMALL = 10_000
"""Pixels that are the default limit in these tests; every photo of the made archive has over 100,000."""
RAISED = 1_000_000
"""Pixels to which the setting is raised."""


def functions() -> Iterator[FunctionType]:
    """Every function and method of neardup and its tasks that has been imported, those of the settings apart."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in {"neardup", "tasks"} and not name.startswith("neardup.settings"):
            for value in list(vars(module).values()):
                members = list(vars(value).values()) if inspect.isclass(value) else [value]
                for member in members:
                    function = inspect.unwrap(getattr(member, "__func__", member))
                    if isinstance(function, FunctionType):
                        yield function


@pytest.fixture
def small_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a limit may be left out, it is that of `SMALL` then: who does not pass the setting on is found out."""
    for function in functions():
        default = inspect.signature(function).parameters.get("max_pixels")
        if default is None or default.default != MAX_PIXELS:
            continue
        if default.kind is inspect.Parameter.KEYWORD_ONLY:
            monkeypatch.setitem(function.__kwdefaults__, "max_pixels", SMALL)
        else:
            changed = tuple(SMALL if value == MAX_PIXELS else value for value in function.__defaults__ or ())
            monkeypatch.setattr(function, "__defaults__", changed)


@pytest.fixture
def approach(prepared: Path, small_encoder: str, tmp_path: Path) -> Approach:
    """A fine-tuning of a prepared archive whose limit is raised."""
    shutil.copytree(prepared, tmp_path / "results")
    translate_training_set(tmp_path / "results", TranslateSettings(translator="none"), None, lambda _: None)
    settings = Settings(
        encoder=small_encoder,
        device="cpu",
        prepare=PrepareSettings(max_pixels=RAISED),
        train=Recipe(epochs=1, batch_size=16),
    )
    return Approach("fine-tuned", tmp_path / "results", settings, load_encoder(small_encoder).fingerprint)


@pytest.mark.usefixtures("small_default", "one_thread")
@pytest.mark.parametrize("name", ["fine-tuned", "fine-tuned-augmented"])
def test_an_experiment_passes_the_limit_on(approach: Approach, name: str) -> None:
    """Training with and without augmentation, vectors, pictures and report."""
    trained = replace(approach, name=name)
    for step in (make_checkpoint, encode_test_set, evaluate_approach):
        step(trained)
    compare_approaches([trained], {})
    assert (approach.out / "report.html").is_file()


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")
@pytest.mark.usefixtures("small_default")
def test_a_lower_precision_passes_the_limit_on(approach: Approach) -> None:
    """The vectors that it is measured by."""
    zero_shot = replace(approach, name="zero-shot")
    for step in (make_checkpoint, encode_test_set, evaluate_approach):
        step(zero_shot)
    assert measure(zero_shot.folder, "cpu", "bf16", RAISED).is_dir()


@pytest.mark.usefixtures("small_default")
def test_the_distractors_of_a_lower_precision_have_the_limit(
    approach: Approach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are encoded anew, for another precision is another encoder."""
    pytest.importorskip("onnx")
    monkeypatch.setattr("neardup.encode.int8.FOLDER", approach.out)
    zero_shot = replace(approach, name="zero-shot", settings=replace(approach.settings, distractors=1))
    for step in (make_checkpoint, encode_test_set, evaluate_approach):
        step(zero_shot)
    assert measure(zero_shot.folder, "cpu", "int8", RAISED).is_dir()


@pytest.mark.usefixtures("small_default")
def test_two_files_that_are_explained_have_the_limit(approach: Approach) -> None:
    """Their keypoints, their vectors and their picture."""
    files = [approach.out / "test_dataset" / photo.name for photo in TestSet.load(approach.out).photos[:2]]
    explained = explain_files(files[0], files[1], approach.out / "picture.png", RAISED)
    assert explained.sentence
    assert (approach.out / "picture.png").is_file()


@pytest.mark.usefixtures("small_default")
@pytest.mark.parametrize("recipe", ["classic", "press"])
def test_augmented_copies_pass_the_limit_on(approach: Approach, recipe: str) -> None:
    """The copies that `neardup augment` writes."""
    training = TrainingSet(TrainingSet.load(approach.out).photos[:2])
    write_augmented(approach.out, training, load_captions(approach.out), recipe, 1, 0, RAISED)
    assert len(list((approach.out / "train_dataset_aug").iterdir())) == 2


@pytest.mark.usefixtures("small_default")
def test_tuning_passes_the_limit_on(approach: Approach) -> None:
    """The photos that trials are measured on, and their copies."""
    tuning = Tuning(approach.out, approach.settings, approach.base)
    assert make_start(tuning)["facts"]["photos"] > 0


@pytest.mark.usefixtures("small_default")
def test_commands_on_a_folder_pass_the_limit_on(approach: Approach) -> None:
    """`embed`, `search` with a page of pictures, and the variants of new photos."""
    out = approach.out
    (out / "neardup.toml").write_text(f"[prepare]\nmax_pixels = {RAISED}\n")
    (out / "new").mkdir()
    photo = TestSet.load(out).photos[0].name
    shutil.copy(out / "test_dataset" / photo, out / "new" / photo)
    folder, vectors, page = out / "test_dataset", out / "vectors.parquet", out / "hits.html"
    common = ("--config", out / "neardup.toml")
    model = ("--encoder", approach.settings.encoder, "--device", "cpu", *common)
    for command in (
        ("embed", folder, "--out", vectors, *model),
        ("search", out / "new", "--in", vectors, "--page", page, "--photos", folder, *model),
        ("augment", "--queries", out / "new", "--out", out, *common),
    ):
        result = CliRunner().invoke(main, [str(word) for word in command], catch_exceptions=False)
        assert (result.exit_code, "over the limit" in result.output) == (0, False)
    assert len(list((out / "queries").iterdir())) == 5


@pytest.mark.usefixtures("small_default")
def test_a_search_from_python_passes_the_limit_on(approach: Approach) -> None:
    """No photo is left out of the gallery, which would be a warning, and none is refused."""
    folder, model = approach.out / "test_dataset", load_encoder(approach.settings.encoder)
    gallery = embed(folder, model, max_pixels=RAISED)
    assert search(folder / gallery.paths[0], gallery, 1, model, RAISED)[0].itself


@pytest.mark.usefixtures("small_default", "one_thread")
def test_what_normalises_is_judged_by_copies_of_any_size(approach: Approach) -> None:
    """Paper around a copy may make it larger than the limit that its photo keeps."""
    example = training_examples(approach.out, RAISED)[0]
    with Image.open(example.image) as photo:
        photo.convert("RGB").save(approach.out / "photo.png")
    examples = [replace(example, image=approach.out / "photo.png")]
    near = NearDuplicates(examples, [0], Recipe(validation_copies=2), KnownPairs(), 6)
    assert len(near.encoded(load_encoder(approach.settings.encoder))) == 3


@pytest.mark.usefixtures("small_default")
@pytest.mark.parametrize(
    "use",
    [
        lambda out, _encoder: read_image(out / "test_dataset" / TestSet.load(out).photos[0].name),
        lambda out, encoder: embed_test_set(out, TestSet.load(out), encoder),
    ],
    ids=["read_image", "embed_test_set"],
)
def test_the_small_default_is_in_force(approach: Approach, use: Callable[..., object]) -> None:
    """Without the setting the photos of these tests are refused."""
    with pytest.raises(UnreadableImageError, match=f"over the limit of {SMALL}"):
        use(approach.out, load_encoder(approach.settings.encoder))
