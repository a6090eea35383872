"""The photos to train on: those with a caption or, for learning from copies alone, all outside the test set."""

from pathlib import Path

from neardup.archive.captions import load_captions
from neardup.archive.known_pairs import known_as_test_photos, training_photos_also_tested
from neardup.archive.scan import scan_archive
from neardup.archive.trainingset import TrainingSet
from neardup.errors import ArchiveError
from neardup.images import MAX_PIXELS
from neardup.measure.distractors import archive_of, candidates, draw
from neardup.stages import STATE
from neardup.train.batches import Example
from neardup.words import counted, typed


def training_examples(out: Path, max_pixels: int = MAX_PIXELS) -> list[Example]:
    """List the training photos with their captions, in the order of the sheet, without those also tested.

    Args:
        out: the output folder, prepared and translated.
        max_pixels: training refuses a photo that has more.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or it has legends that are not translated.
    """
    captions, tested = load_captions(out), set(training_photos_also_tested(out))
    photos = [photo for photo in TrainingSet.load(out).photos if photo.sha256 not in tested]
    if missing := {photo.legend for photo in photos} - captions.keys():
        raise ArchiveError(
            f"captions.csv lacks {counted(len(missing), 'legend')} of the training set: run `neardup translate --out "
            f"{typed(out)}`"
        )
    return [
        Example(
            image=out / "training_set" / photo.image_name,
            photo=photo.sha256,
            caption=captions[photo.legend].text,
            phash=photo.phash,
            phash_mirrored=photo.phash_mirrored,
            max_pixels=max_pixels,
        )
        for photo in photos
    ]


def archive_examples(
    out: Path, *, distractors: int = 0, transductive: bool = False, max_pixels: int = MAX_PIXELS
) -> list[Example]:
    """List the photos that the approach `adapted` learns from, each content once, in the order of the scan.

    Args:
        out: the output folder, prepared from an archive that can still be read.
        distractors: number of photos drawn as distractors, which are left out.
        transductive: take every photo of the archive, those of the test set, without their groups, and the distractors
            included; else none that is in the test set, looks like one of it, is named by the ground truth, or is
            called the same as one of it by a known pair.
        max_pixels: training refuses a photo that has more.

    Raises:
        ArchiveError: nothing has been prepared in `out`, or the archive is gone.
    """
    root, settings = archive_of(out, "whose photos `adapted` learns from")
    archive = scan_archive(root, settings, out / STATE / "scan.parquet")
    photos = {photo.sha256: photo for photo in reversed(archive.photos)}
    chosen = set(photos)
    if not transductive:
        drawn = {photo.sha256 for photo in draw(out, distractors)}
        free = {photo.sha256 for photo in candidates(archive, out, settings)}
        chosen = ({photo.sha256 for photo in TrainingSet.load(out).photos} | free) - drawn - known_as_test_photos(out)
    return [
        Example(root / photo.path, photo.sha256, "", photo.phash, photo.phash_mirrored, max_pixels)
        for photo in reversed(photos.values())
        if photo.sha256 in chosen
    ]
