"""From sheets and folders to a test set, a training set and a report of what did not fit."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from neardup.archive.discrepancies import Discrepancy, write_report
from neardup.archive.names import Names, folded
from neardup.archive.scan import Archive, check_folders, scan
from neardup.archive.sheets import SUFFIXES, is_lock_file, read_workbook
from neardup.archive.testset import ResolvedGroups, TestSet, resolve_groups
from neardup.archive.trainingset import Legends, TrainingSet, write_training_sheet
from neardup.errors import ArchiveError
from neardup.progress import bar
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, Stage, claim, digest_file, digest_of, replacing, write_json
from neardup.tables import write_table

STEP = 3
"""Bumped when the result changes for equal inputs."""
REMEMBERED = "archive.json"
"""File of the state folder that says where the archive lies and with what settings it was read."""


@dataclass(frozen=True)
class Prepared:
    """What was made of an archive.

    Attributes:
        archive: the scan.
        test_set: the groups.
        training_set: photos with legends.
        counts: what was listed, used and left out; `listed` is the sum of the others of its block.
        reused: whether all of it was there already.
    """

    archive: Archive
    test_set: TestSet
    training_set: TrainingSet
    counts: dict[str, int]
    reused: bool


def prepare(root: Path, out: Path, settings: PrepareSettings) -> Prepared:
    """Make `new_IS.xlsx`, `test_dataset/`, `df_training.xlsx`, `training_set/` and the discrepancy report.

    Args:
        root: the archive; it is only read.
        out: the output folder, outside the archive.
        settings: where things lie in the archive.

    Raises:
        ArchiveError: the archive or its ground truth is not there, or `out` lies inside the archive.
    """
    check_archive(root, out, settings)
    write_json(out / STATE / REMEMBERED, {"root": str(root.resolve()), "prepare": asdict(settings)})
    archive = scan(
        root,
        table=out / STATE / "scan.parquet",
        patterns=settings.photos,
        exclude=settings.pages,
        max_pixels=settings.max_pixels,
    )
    workbooks = [path for path in find_workbooks(root) if path != settings.ground_truth]
    sheets = {path: digest_file(root / path) for path in [settings.ground_truth, *workbooks]}
    stage = Stage(out, "prepare", digest_of(STEP, archive.digest, sheets, asdict(settings)))
    manifest = stage.read()
    if manifest is not None:
        return Prepared(archive, TestSet.load(out), TrainingSet.load(out), manifest["facts"], reused=True)
    return _make(stage, archive, workbooks, settings)


def check_archive(root: Path, out: Path, settings: PrepareSettings) -> None:
    """Refuse what cannot work before anything is done.

    Raises:
        ArchiveError: the archive or its ground truth is not there, or `out` lies inside the archive.
    """
    check_folders(root, out)
    if not (root / settings.ground_truth).is_file():
        raise ArchiveError(
            f"{root / settings.ground_truth} is not there: put the sheet of groups there, or name it as ground_truth "
            "under [prepare] in neardup.toml",
        )


def find_workbooks(root: Path) -> list[str]:
    """Every workbook of the archive, relative to it and ordered; lock files are none."""
    return sorted(
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not is_lock_file(Path(name))
    )


def _make(stage: Stage, archive: Archive, workbooks: Sequence[str], settings: PrepareSettings) -> Prepared:
    root, out, names = archive.root, stage.out, Names(archive)
    try:
        resolved = resolve_groups(read_workbook(root / settings.ground_truth), names, settings.ground_truth)
    except ArchiveError as error:
        raise ArchiveError(f"{root / settings.ground_truth}: {error}; save it again as .xlsx") from None
    legends = Legends(names, settings.patterns, [], [], Counter())
    for path in workbooks:
        try:
            for sheet in read_workbook(root / path):
                legends.read(path, sheet)
        except ArchiveError as error:
            legends.lines.append(
                Discrepancy("unreadable", path, detail=str(error), suggestion="save it again as .xlsx")
            )
    tested = {photo.sha256 for photo in resolved.test_set.photos}
    test_photos = [photo for photo in archive.photos if photo.sha256 in tested]
    training = legends.training_set(test_photos, resolved.test_set, settings.look_alike_bits)
    counts = _counts(archive, resolved, legends, training)
    outputs = _write(out, archive, resolved.test_set, training)
    lines = [*_files(archive, names), *resolved.discrepancies, *legends.lines]
    outputs += write_report(out, lines, [(*name.split(": ", 1), n) for name, n in counts.items()])  # type: ignore[misc]
    stage.finish(outputs, counts)
    return Prepared(archive, resolved.test_set, training, counts, reused=False)


def _counts(archive: Archive, resolved: ResolvedGroups, legends: Legends, training: TrainingSet) -> dict[str, int]:
    """The books, block by block; every block's `listed` is the sum of its other lines."""
    used = {photo.sha256 for photo in resolved.test_set.photos}, {photo.sha256 for photo in training.photos}
    places = Counter(
        "test" if p.sha256 in used[0] else "training" if p.sha256 in used[1] else "other" for p in archive.photos
    )
    counts = {
        "image files: listed": len(archive.photos) + len(archive.unreadable),
        "image files: in the test set": places["test"],
        "image files: in the training set": places["training"],
        "image files: in neither, as no sheet names them or their row was left out": places["other"],
        "image files: unreadable": len(archive.unreadable),
    }
    for block, kinds in (("names of the ground truth", resolved.counts), ("rows of the legend sheets", legends.counts)):
        counts |= {f"{block}: {kind}": kinds[kind] for kind in ("listed", "used")}
        counts |= {f"{block}: {kind}": n for kind, n in sorted(kinds.items()) if kind not in {"listed", "used"}}
    return counts


def _files(archive: Archive, names: Names) -> Iterator[Discrepancy]:
    """What is worth knowing of the files themselves."""
    for fault in archive.unreadable:
        yield Discrepancy("unreadable", fault.path, name=PurePosixPath(fault.path).name, detail=fault.reason)
    expected = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "TIFF": (".tif", ".tiff")}
    places: dict[str, list[str]] = {}
    contents: dict[str, list[str]] = {}
    for photo in archive.photos:
        suffix = PurePosixPath(photo.path).suffix.lower()
        if suffix not in expected.get(photo.format, (f".{photo.format.lower()}",)):
            detail = f"the content is {photo.format}, not what the name {suffix} says; it is read as {photo.format}"
            yield Discrepancy("note", photo.path, name=photo.name, detail=detail)
        if photo.mode not in {"RGB", "L"}:
            yield Discrepancy("note", photo.path, name=photo.name, detail=f"{photo.mode} pixels are read as RGB")
        places.setdefault(folded(photo.name), []).append(photo.path)
        contents.setdefault(photo.sha256, []).append(photo.path)
    for same in places.values():
        if len(same) > 1 and names.find(PurePosixPath(same[0]).name).ambiguous:
            detail = f"different photos have this name, and each is kept: {', '.join(same)}"
            yield Discrepancy("ambiguous", same[0], name=PurePosixPath(same[0]).name, detail=detail)
    for same in contents.values():
        if len(same) > 1:
            yield Discrepancy(
                "note", same[0], name=PurePosixPath(same[0]).name, detail=f"equal bytes: {', '.join(same)}"
            )


def _write(out: Path, archive: Archive, test_set: TestSet, training: TrainingSet) -> list[Path]:
    tests = [(photo.path, photo.name) for photo in test_set.photos]
    copy_photos(archive.root, tests, out / "test_dataset")
    copy_photos(archive.root, [(photo.path, photo.image_name) for photo in training.photos], out / "training_set")
    write_table(out / "new_IS.xlsx", (), test_set.rows(), header=False)
    write_training_sheet(out, training, {})
    tables = [test_set.save(out), training.save(out)]
    return [out / "test_dataset", out / "training_set", out / "new_IS.xlsx", *tables]


def copy_photos(root: Path, photos: Sequence[tuple[str, str]], folder: Path) -> None:
    """Copy (path in `root`, name in `folder`), whole or not at all; what else a former run left there goes away.

    Raises:
        ArchiveError: the folder holds files of somebody else.
    """
    claim(folder)
    wanted = {name for _, name in photos}
    for stale in folder.iterdir():
        if stale.name not in wanted:
            stale.unlink()
    for path, name in bar(photos, f"copying to {folder.name}", unit="photo", disable=None):
        target = folder / name
        if target.is_file() and digest_file(target) == digest_file(root / path):
            continue
        with replacing(target) as partial:
            shutil.copyfile(root / path, partial)
