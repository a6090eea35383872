"""What verification keeps: evidence of pairs as Parquet, and keypoints of photos in a cache with a size limit."""

import errno
import json
import os
import sys
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from neardup.errors import ArchiveError
from neardup.stages import delete_abandoned, reading, replacing
from neardup.tables import reading_parquet, write_parquet
from neardup.verify.evidence import Evidence
from neardup.verify.keypoints import KEYPOINTS_STEP, Keypoints, LocalFeatures, opencv_major
from neardup.words import typed

EVIDENCE = "evidence.parquet"
"""Name of the file that holds the evidence of pairs, beside the tables of the pairs."""
FACTS = "duplicates.json"
"""Name of the file of counts and of what the results were made with, beside the tables of the pairs; written last."""
KEYPOINTS = "keypoints"
"""Name of the folder of cached keypoints in a state folder, `.neardup` of an output folder."""
CACHE_BYTES = 8 * 2**30
"""Most bytes of keypoints that are kept from one run to the next: those of about 75,000 photos."""
READ_ROWS = 4096
"""Rows of evidence that are in memory as dicts at once: about 10 MB."""
UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT})
"""Error numbers which mean that a folder can take no file, or has no room, so that its keypoints are not kept."""
CHECKSUM = "crc32"
"""Name of the array that holds the checksum of the other arrays: safetensors files have none of their own."""
EvidenceByPair = dict[tuple[str, str], Evidence]
"""Evidence by the SHA-256 of both photos, the lesser first."""


def write_evidence(path: Path, evidence: Iterable[Evidence], fingerprint: str) -> Path:
    """Write the evidence of pairs as Parquet, one column per field, atomically.

    Args:
        path: the file.
        evidence: evidence of each pair.
        fingerprint: fingerprint of the verifier that found it.
    """
    rows = list(evidence)
    numbers = pa.list_(pa.float64())
    boxes = {"picture_first": numbers, "picture_second": numbers, "differences": pa.list_(numbers)}
    types = _column_types() | {"transform": numbers} | boxes
    columns = {field.name: pa.array(map(attrgetter(field.name), rows), types[field.name]) for field in fields(Evidence)}
    table = pa.table(columns).replace_schema_metadata({"verifier": fingerprint})
    return write_parquet(path, table)


def read_evidence(path: Path, fingerprint: str | None = None, photos: Collection[str] | None = None) -> EvidenceByPair:
    """Read the evidence in a file; empty where there is no file.

    Args:
        path: the file.
        fingerprint: fingerprint of the verifier whose evidence is wanted; where another one found it, or the file is
            broken, the result is empty, so that the evidence is found again. None to read whatever is there.
        photos: SHA-256 of photos, one of which a pair must have; None for all pairs. Without photos no file is read.

    Raises:
        ArchiveError: the file is broken, and no verifier is named.
    """
    if photos is not None and not photos:
        return {}
    try:
        table = evidence_table(path)
        if table is None or fingerprint not in {None, (table.schema.metadata or {}).get(b"verifier", b"").decode()}:
            return {}
        if photos is not None:
            named = pa.array(list(photos), pa.string())
            table = table.filter(pc.or_(*(pc.is_in(table[side], named) for side in ("first", "second"))))
        return {(evidence.first, evidence.second): evidence for evidence in evidence_in(table)}
    except ArchiveError:
        if fingerprint is None:
            raise
        return {}


def evidence_table(path: Path) -> pa.Table | None:
    """Read the table that `write_evidence` wrote; None where there is no file.

    Raises:
        ArchiveError: the file is broken.
    """
    needed = [field.name for field in fields(Evidence) if field.default is MISSING]
    newer = [field.name for field in fields(Evidence) if field.default is not MISSING]
    return read_results(path, path.parent.parent, needed, newer) if path.is_file() else None


def read_results(path: Path, out: Path, columns: Sequence[str] | None = None, optional: Sequence[str] = ()) -> pa.Table:
    """Read a table that `neardup duplicates` wrote into an output folder, or some of its columns.

    Args:
        path: the table.
        out: the output folder.
        columns: columns that the table must have; None for all that it has.
        optional: columns that it may lack because an earlier version, or a run without verification, wrote it.

    Raises:
        ArchiveError: the table does not exist, is broken or lacks a column.
    """
    again = f"run `neardup duplicates ARCHIVE --out {typed(out)}`"
    if not path.is_file():
        raise ArchiveError(f"{path} does not exist: {again} first")
    with reading_parquet(lambda reason: f"{path} cannot be read ({reason}): {again} again, which writes it anew"):
        known = pq.read_schema(path).names if optional else []
        names = columns and [*columns, *(name for name in optional if name in known)]
        return pq.read_table(path, columns=names, page_checksum_verification=True)


def read_facts(out: Path) -> dict[str, Any]:
    """Read what `neardup duplicates` writes last into an output folder: its counts, and what results were made with.

    Raises:
        ArchiveError: the file is broken or missing; without it, a run was stopped and the tables may be of two runs.
    """
    file, again = out / "duplicates" / FACTS, f"run `neardup duplicates ARCHIVE --out {typed(out)}` again"
    if not file.is_file():
        raise ArchiveError(f"{file} does not exist, for a run was stopped before it had written all tables: {again}")
    with reading(file, f"{again}, which writes it anew"):
        return dict(json.loads(file.read_text(encoding="utf-8")))


def evidence_in(table: pa.Table) -> list[Evidence]:
    """Read the evidence in a table that `write_evidence` wrote, or in some of its rows; old tables may lack columns.

    All rows share one string per photo and one object per default value, because the evidence of a million photos is in
    memory at once.
    """
    defaults = {field.name: field.default for field in fields(Evidence)}
    every = (row for batch in table.to_batches(READ_ROWS) for row in batch.to_pylist())
    rows = ({name: _frozen(value) for name, value in row.items() if name in defaults} for row in every)
    return [Evidence(**{name: value for name, value in row.items() if value != defaults[name]}) for row in rows]


def _frozen(value: Any) -> Any:
    """Turn a value of Parquet into one of `Evidence`: lists become tuples, and equal strings one object."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return sys.intern(value) if isinstance(value, str) else value


def _column_types() -> dict[str, pa.DataType]:
    """Map each field of `Evidence` to the type of its column in Parquet; fields that hold lists are left out."""
    by_type = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return {name: by_type[hint] for name, hint in get_type_hints(Evidence).items() if hint in by_type}


def _checksum(arrays: Mapping[str, np.ndarray[Any, Any]]) -> int:
    """CRC-32 of arrays with their names, types and shapes: it reveals bytes that a disk changed."""
    checksum = 0
    for name in sorted(arrays):
        array = arrays[name]
        checksum = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), checksum))
    return checksum


class KeypointCache:
    """Cache of photos' keypoints by content, in a folder that may be deleted at any time.

    Each photo has one file in the safetensors format, which is read seven times as fast as NumPy's .npz: in a large
    collection a file is read for nearly each pair.

    Attributes:
        folder: folder of the files, with a subfolder for the first two letters of the SHA-256.
        limit: most bytes that `shrink` leaves.
    """

    def __init__(self, folder: Path, limit: int = CACHE_BYTES) -> None:
        """Open a cache; its folder is made when something is kept."""
        self.folder, self.limit = folder, limit

    @classmethod
    def in_state(cls, state: Path) -> "KeypointCache":
        """Open the cache of a state folder, which all commands with one output folder share."""
        return cls(state / KEYPOINTS)

    def _path(self, photo: str) -> Path:
        """Path of a photo's keypoints, as made by this version of the step and of OpenCV."""
        return self.folder / photo[:2] / f"{photo}-{KEYPOINTS_STEP}-{opencv_major()}.safetensors"

    def has(self, photo: str) -> bool:
        """Whether the keypoints of a photo, named by its SHA-256, are in the cache."""
        return self._path(photo).is_file()

    def get(self, photo: str) -> LocalFeatures | None:
        """Read the keypoints of a photo, named by its SHA-256; None where they are missing or their file is broken."""
        path = self._path(photo)
        try:
            arrays = load_file(path)
            if arrays.pop(CHECKSUM).item() != _checksum(arrays):
                return None
            width, height = arrays["size"].tolist()
            plain, blurred = (
                Keypoints(arrays[f"{version}_places"], arrays[f"{version}_descriptors"])
                for version in ("plain", "blurred")
            )
            features = LocalFeatures(width, height, plain, blurred, arrays["grey"], arrays["screen"].item())
        except Exception:  # noqa: BLE001 - whatever a broken file leads to, the keypoints are made again
            return None
        with suppress(OSError):
            os.utime(path)  # a file that another process deleted since stays deleted
        return features

    def put(self, photo: str, features: LocalFeatures) -> None:
        """Write the keypoints of a photo, named by its SHA-256, into the cache atomically.

        In a folder that can only be read, such as a state folder that others share, and on a full disk keypoints are
        not kept.

        Raises:
            OSError: the file cannot be written for another reason, such as a broken disk.
        """
        arrays = {
            "size": np.array([features.width, features.height]),
            "grey": features.grey,
            "screen": np.array(features.screen),
            "plain_places": features.plain.places,
            "plain_descriptors": features.plain.descriptors,
            "blurred_places": features.blurred.places,
            "blurred_descriptors": features.blurred.descriptors,
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        try:
            with replacing(self._path(photo)) as partial:
                save_file(arrays | {CHECKSUM: np.array(_checksum(arrays))}, partial)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise

    def shrink(self) -> int:
        """Delete the least recently used keypoints until the limit is kept, and return the number of files deleted.

        Call it at the end of a run: until then a photo's keypoints are needed for each pair that it is in.
        """
        files = []
        for path in self.folder.rglob("*-*.*"):
            if not path.name.startswith("."):
                with suppress(FileNotFoundError):  # another process deleted it
                    files.append((path.stat(), path))
        for folder in {path.parent for _, path in files}:
            delete_abandoned(folder)
        total, deleted = sum(status.st_size for status, _ in files), 0
        for status, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if total <= self.limit:
                break
            with suppress(OSError):  # another process deleted it, or the folder can only be read
                path.unlink()
                total -= status.st_size
                deleted += 1
        return deleted
