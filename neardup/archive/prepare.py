"""Prepare an archive: from sheets and folders to a test set, a training set and a report of discrepancies."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from neardup.archive.discrepancies import Discrepancy, write_discrepancies
from neardup.archive.groundtruth import ground_truth_rows, named_photos, notes_on_sheets, parse_ground_truth
from neardup.archive.leaks import Leaks
from neardup.archive.legends import LegendSheet, parse_legends
from neardup.archive.names import NameMatch, Names, normal
from neardup.archive.resolve import ResolvedGroups, ResolvedLegends, resolve_groups, resolve_legends
from neardup.archive.scan import Archive, Photo, check_folders, scan_archive
from neardup.archive.sheets import Sheet, find_workbooks, read_workbook
from neardup.archive.testset import TestSet
from neardup.archive.trainingset import TrainingSet, write_training_sheet
from neardup.archive.walk import Skipped, composed
from neardup.errors import ArchiveError, UnreadableImageError
from neardup.images import FORMATS, read_content, suffix_of
from neardup.progress import bar
from neardup.settings.schema import PrepareSettings
from neardup.stages import STATE, Stage, claim, digest_file, digest_of, read_json, replacing, write_json
from neardup.tables import write_table

STEP = 10
"""Version of the preparation stage, raised when its result changes for equal inputs."""
ARCHIVE_FILE = "archive.json"
"""File in the state folder that records where the archive lies and with what settings it was read."""


@dataclass(frozen=True)
class Prepared:
    """The result of preparing an archive.

    Attributes:
        archive: the scanned archive.
        test_set: the historian's groups.
        training_set: the photos with legends, none of them in the test set.
        counts: numbers that were listed, used and left out; in each block, `listed` is the sum of the others.
        reused: whether an earlier run had made everything, so that nothing was done.
    """

    archive: Archive
    test_set: TestSet
    training_set: TrainingSet
    counts: dict[str, int]
    reused: bool


@dataclass(frozen=True)
class _Workbooks:
    """The workbooks of an archive, before any is read.

    Attributes:
        ground_truth: path of the workbook of groups, relative to the archive.
        others: paths of all other workbooks, sorted.
        digests: path → SHA-256 of its bytes.
        discrepancies: workbooks that cannot be opened, and why.
    """

    ground_truth: str
    others: tuple[str, ...]
    digests: dict[str, str]
    discrepancies: tuple[Discrepancy, ...]


def prepare(root: Path, out: Path, settings: PrepareSettings) -> Prepared:
    """Make `new_IS.xlsx`, `test_dataset/`, `df_training.xlsx`, `training_set/` and the discrepancy report.

    Args:
        root: the archive; it is only read.
        out: the output folder, outside the archive.
        settings: where things lie in the archive.

    Raises:
        ArchiveError: the archive or its ground truth does not exist, or `out` lies inside the archive.
    """
    # Scan: which photos and which workbooks the archive holds.
    check_archive(root, out, settings)
    archive = scan_archive(root, settings, out / STATE / "scan.parquet")
    workbooks = _workbooks(root, settings)
    faults = [(line.file, line.detail) for line in workbooks.discrepancies]
    stage = Stage(out, "prepare", digest_of(STEP, archive.digest, workbooks.digests, faults, asdict(settings)))
    manifest = stage.read()
    if manifest is not None:
        training = TrainingSet.load(out)
        if not (out / "df_training.xlsx").is_file():
            write_training_sheet(out, training, {})
        _remember(root, out, settings)
        return Prepared(archive, TestSet.load(out), training, manifest["facts"], reused=True)

    # Parse: what the sheets say.
    names = Names(archive)
    group_sheets = _read_ground_truth(root / workbooks.ground_truth)
    mentions = parse_ground_truth(workbooks.ground_truth, group_sheets)
    legend_sheets = [sheet for path in workbooks.others for sheet in _read_legends(root, path)]

    # Resolve: which photos the sheets mean, and which of them may be trained on.
    groups = resolve_groups(mentions, names)
    tested = {photo.sha256 for photo in groups.test_set.photos}
    test_photos = [photo for photo in archive.photos if photo.sha256 in tested]
    leaks = Leaks(test_photos, groups.test_set, settings.look_alike_bits, named_photos(mentions, names))
    legends = resolve_legends(legend_sheets, names, settings.patterns, leaks)

    # Store: tables, and copies of the photos.
    outputs = _store(out, archive, names, groups.test_set, legends.training_set)

    # Report: every discrepancy, and the counts.
    counts = _counts(archive, groups, legends)
    notes = notes_on_sheets(workbooks.ground_truth, group_sheets)
    lines = [*_lines_of_files(archive), *workbooks.discrepancies, *notes, *groups.discrepancies, *legends.discrepancies]
    blocks = [(*name.partition(": ")[::2], number) for name, number in counts.items()]
    outputs += write_discrepancies(out, lines, blocks)
    stage.finish(outputs, counts)
    _remember(root, out, settings)
    return Prepared(archive, groups.test_set, legends.training_set, counts, reused=False)


def _remember(root: Path, out: Path, settings: PrepareSettings) -> None:
    """Record where the archive lies and how it was read; an equal record is not rewritten."""
    note, file = {"root": str(root.resolve()), "prepare": asdict(settings)}, out / STATE / ARCHIVE_FILE
    if read_json(file) != json.loads(json.dumps(note)):
        write_json(file, note)


def remembered_root(out: Path) -> Path | None:
    """Read which archive an output folder was prepared from; None where the folder has no record."""
    root = read_json(out / STATE / ARCHIVE_FILE).get("root")
    return Path(str(root)) if root else None


def check_archive(root: Path, out: Path, settings: PrepareSettings) -> None:
    """Raise an error, before anything is done, if preparation cannot work.

    Raises:
        ArchiveError: the archive or its ground truth does not exist, or `out` lies inside the archive.
    """
    check_folders(root, out)
    if not (root / find_ground_truth(root, settings)).is_file():
        raise ArchiveError(
            f"{root / settings.ground_truth} is not there: put the sheet of groups there, or name it as ground_truth "
            "under [prepare] in neardup.toml",
        )


def find_ground_truth(root: Path, settings: PrepareSettings) -> str:
    """Find the path of the workbook of groups, relative to the archive, as spelt on disk."""
    return _on_disk(root, settings.ground_truth)


def _on_disk(root: Path, path: str) -> str:
    """Find a path below `root` as spelt on disk, however the accents of both are composed."""
    path_on_disk = PurePosixPath()
    for part in PurePosixPath(path).parts:
        folder = root / path_on_disk
        others = [] if (folder / part).exists() or not folder.is_dir() else [entry.name for entry in folder.iterdir()]
        path_on_disk /= next((name for name in others if composed(name) == composed(part)), part)
    return path_on_disk.as_posix()


def _workbooks(root: Path, settings: PrepareSettings) -> _Workbooks:
    """Find the workbooks of the archive that can be opened, and make discrepancies of those that cannot."""
    skipped: list[Skipped] = []
    ground_truth = find_ground_truth(root, settings)
    digests = {ground_truth: _digest_of_ground_truth(root / ground_truth)}
    for path in find_workbooks(root, skipped.append):
        if path == ground_truth:
            continue
        try:
            digests[path] = digest_file(root / path)
        except OSError as error:
            skipped.append(Skipped(path, f"the workbook cannot be read ({error.strerror})"))
    lines = [Discrepancy("unreadable", item.path, detail=item.reason) for item in skipped if not item.is_folder]
    return _Workbooks(ground_truth, tuple(list(digests)[1:]), digests, tuple(lines))


def _digest_of_ground_truth(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read ({error.strerror}): see that you may read it") from error


def _read_ground_truth(path: Path) -> list[Sheet]:
    try:
        return read_workbook(path)
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from None


def _read_legends(root: Path, path: str) -> list[LegendSheet]:
    """Read each sheet of a workbook of legends; an unreadable workbook gives a discrepancy."""
    try:
        return [parse_legends(path, sheet) for sheet in read_workbook(root / path)]
    except ArchiveError as error:
        return [LegendSheet(discrepancies=(Discrepancy("unreadable", path, detail=str(error)),))]


def _counts(archive: Archive, groups: ResolvedGroups, legends: ResolvedLegends) -> dict[str, int]:
    """Make the counts, block by block; every block's `listed` is the sum of its other lines."""
    tested = {photo.sha256 for photo in groups.test_set.photos}
    trained = {photo.sha256 for photo in legends.training_set.photos}
    places = Counter(
        "test" if p.sha256 in tested else "training" if p.sha256 in trained else "other" for p in archive.photos
    )
    counts = {
        "image files: listed": len(archive.photos) + len(archive.unreadable),
        "image files: in the test set": places["test"],
        "image files: in the training set": places["training"],
        "image files: in neither, as no sheet names them or their row was left out": places["other"],
        "image files: unreadable": len(archive.unreadable),
    }
    for block, kinds in (("names of the ground truth", groups.counts), ("rows of the legend sheets", legends.counts)):
        counts |= {f"{block}: {kind}": kinds[kind] for kind in ("listed", "used")}
        counts |= {f"{block}: {kind}": n for kind, n in sorted(kinds.items()) if kind not in {"listed", "used"}}
    return counts


def _lines_of_files(archive: Archive) -> Iterator[Discrepancy]:
    """Yield discrepancies of the files themselves, and notes worth knowing."""
    for folder in archive.unlisted:
        yield Discrepancy("unreadable", folder.path, detail=folder.reason)
    for fault in archive.unreadable:
        yield Discrepancy("unreadable", fault.path, name=PurePosixPath(fault.path).name, detail=fault.reason)
    namesakes: dict[str, list[Photo]] = {}
    contents: dict[str, list[str]] = {}
    for photo in archive.photos:
        suffix = suffix_of(photo.path)
        if suffix not in FORMATS.get(photo.format, ()):
            detail = f"the content is {photo.format}, not what the name {suffix} says; it is read as {photo.format}"
            yield Discrepancy("note", photo.path, name=photo.name, detail=detail)
        if photo.mode not in {"RGB", "L"}:
            yield Discrepancy("note", photo.path, name=photo.name, detail=f"{photo.mode} pixels are read as RGB")
        namesakes.setdefault(normal(photo.name), []).append(photo)
        contents.setdefault(photo.sha256, []).append(photo.path)
    for photos in namesakes.values():
        if NameMatch(tuple(photos)).ambiguous:
            places = ", ".join(photo.path for photo in photos)
            detail = f"different photos have this name, and each is kept: {places}"
            yield Discrepancy("ambiguous", photos[0].path, name=photos[0].name, detail=detail)
    for same in contents.values():
        if len(same) > 1:
            yield Discrepancy(
                "note", same[0], name=PurePosixPath(same[0]).name, detail=f"equal bytes: {', '.join(same)}"
            )


def _store(out: Path, archive: Archive, names: Names, test_set: TestSet, training: TrainingSet) -> list[Path]:
    """Write tables and copies of photos; return the paths written."""
    tests = [(photo.path, photo.name, photo.sha256) for photo in test_set.photos]
    copy_photos(archive.root, tests, out / "test_dataset")
    trained = [(photo.path, photo.image_name, photo.sha256) for photo in training.photos]
    copy_photos(archive.root, trained, out / "training_set")
    write_table(out / "new_IS.xlsx", (), ground_truth_rows(test_set, names), header=False)
    write_training_sheet(out, training, {})
    tables = [test_set.save(out), training.save(out)]
    return [out / "test_dataset", out / "training_set", out / "new_IS.xlsx", *tables]


def copy_photos(root: Path, photos: Sequence[tuple[str, str, str]], folder: Path) -> None:
    """Copy photos, each atomically, and delete what else an earlier run left in the folder.

    Args:
        root: the archive.
        photos: for each photo, its path in `root`, its name in `folder` and the SHA-256 of its bytes.
        folder: folder of the copies.

    Raises:
        ArchiveError: the folder holds files that neardup did not write, or a photo can no longer be read or has other
            bytes.
    """
    claim(folder, keep={name for _, name, _ in photos})
    for path, name, sha256 in bar(photos, f"copying to {folder.name}", unit="photo", disable=None):
        target = folder / name
        if target.is_file() and digest_file(target) == sha256:
            continue
        try:
            data = read_content(root / path, sha256)
        except (FileNotFoundError, UnreadableImageError) as error:
            why = "it is gone" if isinstance(error, FileNotFoundError) else str(error)
            raise ArchiveError(f"{root / path} cannot be copied ({why}): run the same command again") from error
        with replacing(target) as partial:
            partial.write_bytes(data)
