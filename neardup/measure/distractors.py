"""Distractors: photos of the archive, in neither set, that make the search among the test set harder.

They are in every query's gallery and relevant to none. `neardup.measure.scored.ScoredTestSet` says in which metrics
they count.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neardup.archive.groundtruth import named_photos, parse_ground_truth
from neardup.archive.known_pairs import known_as_test_photos
from neardup.archive.leaks import Leaks
from neardup.archive.names import Names, distinct_names
from neardup.archive.prepare import ARCHIVE_FILE, copy_photos, find_ground_truth
from neardup.archive.scan import Archive, Photo, scan_archive
from neardup.archive.sheets import read_workbook
from neardup.archive.testset import TestPhoto, TestSet
from neardup.archive.trainingset import TrainingSet
from neardup.encode.protocol import Encoder
from neardup.encode.store import store_of
from neardup.encode.vectors import Embeddings, embed_photos
from neardup.errors import ArchiveError
from neardup.images import MAX_PIXELS
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, Stage, digest_of, reading
from neardup.tables import load_table, save_rows
from neardup.words import typed

DRAW_STEP = 2
"""Bumped when equal inputs would give other distractors."""
FOLDER = "distractors"
"""Folder of the copies in the output folder; names of distractors begin with it and thus differ from test photos'."""


@dataclass(frozen=True)
class Distractor:
    """One photo of the archive that is in every query's gallery.

    Attributes:
        name: its path in the output folder: `distractors/` and a file name that is unique there.
        path: path of the photo in the archive.
        sha256: SHA-256 of its bytes.
    """

    name: str
    path: str
    sha256: str


def drawing(out: Path, count: int, seed: int = 0) -> Stage:
    """Make the stage that draws and copies the distractors of a prepared folder.

    Args:
        out: the output folder.
        count: how many distractors.
        seed: seed of the draw.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or its table of known pairs has other columns.
    """
    prepared = prepared_key(out)
    return Stage(out, FOLDER, digest_of(DRAW_STEP, prepared, count, seed, sorted(known_as_test_photos(out))))


def draw(out: Path, count: int, seed: int = 0) -> list[Distractor]:
    """Draw the distractors of a prepared folder and copy them to `distractors/`, unless that was done before.

    A smaller count gives the first ones of a greater count, and one more photo in the archive changes at most one of
    them.

    Args:
        out: the output folder, prepared from an archive that can still be read.
        count: how many distractors.
        seed: seed of the draw.

    Raises:
        ArchiveError: the archive or a photo of it is gone, or it has fewer photos that may be distractors.
    """
    if count == 0:
        return []
    stage, table = drawing(out, count, seed), out / STATE / "distractors.csv"
    if not stage.done():
        root, settings = archive_of(out, "which distractors are drawn from", ", or leave --distractors out")
        archive = scan_archive(root, settings, out / STATE / "scan.parquet")
        free = candidates(archive, out, settings)
        if len(free) < count:
            raise ArchiveError(
                f"{count} distractors were asked for, but the archive {root} has only {len(free)} photos that are in "
                f"neither set and look like none of them: ask for at most {len(free)} with --distractors"
            )
        chosen = sorted(free, key=lambda photo: digest_of(seed, photo.sha256))[:count]
        names = distinct_names([photo.path for photo in chosen])
        copies = [(photo.path, name, photo.sha256) for photo, name in zip(chosen, names, strict=True)]
        copy_photos(root, copies, out / FOLDER)
        rows = [
            Distractor(f"{FOLDER}/{name}", photo.path, photo.sha256) for photo, name in zip(chosen, names, strict=True)
        ]
        stage.finish([save_rows(table, Distractor, rows), out / FOLDER], {"candidates": len(free)})
    return list(load_table(table, Distractor))


def prepared_key(out: Path) -> str:
    """Read the key of what was prepared in an output folder: it changes with every photo and sheet of the archive.

    Raises:
        ArchiveError: nothing has been prepared in `out`.
    """
    manifest = out / STATE / "prepare.json"
    if not manifest.is_file():
        raise ArchiveError(f"{out} holds no prepared archive: run `neardup prepare ARCHIVE --out {typed(out)}` first")
    with reading(manifest, f"run `neardup prepare ARCHIVE --out {typed(out)}` again"):
        return str(json.loads(manifest.read_text(encoding="utf-8"))["key"])


def archive_of(out: Path, need: str, otherwise: str = "") -> tuple[Path, PrepareSettings]:
    """Find the archive that a folder was prepared from, and its settings.

    Args:
        out: the output folder.
        need: what the archive is needed for, as a relative clause for the error's sentence.
        otherwise: what else the user may do if it is gone, for the error's sentence.

    Raises:
        ArchiveError: the folder does not record its archive, or the archive does not exist.
    """
    advice = f"run `neardup prepare ARCHIVE --out {typed(out)}` with the place where it lies now{otherwise}"
    file = out / STATE / ARCHIVE_FILE
    if not file.is_file():
        raise ArchiveError(f"{out} does not say which archive it was prepared from: {advice}")
    with reading(file, advice):
        facts = json.loads(file.read_text(encoding="utf-8"))
        root, settings = Path(facts["root"]), PrepareSettings(**facts["prepare"])
    if not root.is_dir():
        raise ArchiveError(f"the archive {root}, {need}, is not there: {advice}")
    return root, settings


def candidates(archive: Archive, out: Path, settings: PrepareSettings) -> list[Photo]:
    """List the photos of an archive that may be distractors, each content once.

    A photo may not be one if it is in the test set or the training set by name, content or looks, if the ground truth
    names it, even where its row was left out, or if a known pair calls it the same as a test photo: it would be a
    near-duplicate that counts as a wrong answer.

    Args:
        archive: the scanned archive.
        out: the folder that was prepared from it.
        settings: the settings of the preparation.
    """
    test, training = TestSet.load(out).photos, TrainingSet.load(out).photos
    used = TestSet((*test, *(TestPhoto(photo.image_name, photo.path, photo.sha256, 0, 0) for photo in training)))
    contents = {photo.sha256 for photo in used.photos}
    workbook = find_ground_truth(archive.root, settings)
    named = named_photos(parse_ground_truth(workbook, read_workbook(archive.root / workbook)), Names(archive))
    used_photos = [photo for photo in archive.photos if photo.sha256 in contents]
    leaks, same = Leaks(used_photos, used, settings.look_alike_bits, named), known_as_test_photos(out)
    once = {photo.sha256: photo for photo in reversed(archive.photos) if photo.sha256 not in same}
    return [photo for photo in once.values() if leaks.reason(photo) is None]


def embed_distractors(
    out: Path, drawn: list[Distractor], encoder: Encoder, max_pixels: int = MAX_PIXELS, store: str | None = None
) -> Embeddings:
    """Encode distractors, each once in the life of the folder; their names serve as paths."""
    items = [(photo.name, photo.sha256) for photo in drawn]
    return embed_photos(items, out, encoder, store=store_of(out, store), max_pixels=max_pixels)


def image_of(images: Path, name: str) -> Path:
    """Find the copy of a test photo or a distractor by its name in an evaluation.

    Args:
        images: the folder `test_dataset/`; that of distractors lies beside it.
        name: name of the photo.
    """
    return images.parent / name if PurePosixPath(name).parts[0] == FOLDER else images / name
