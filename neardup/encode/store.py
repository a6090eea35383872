"""A store of vectors: Parquet tables in a folder or at any URL that fsspec supports (`s3://…`)."""

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neardup.archive.scan import check_archive, check_folders
from neardup.arrays import Vectors
from neardup.errors import ArchiveError, install_hint
from neardup.stages import STATE, delete_abandoned, replacing
from neardup.tables import encodable, reading_parquet


def store_of(out: Path, url: str | None = None) -> str:
    """Choose the folder or URL of the vectors that all commands with one output folder share.

    Args:
        out: the output folder.
        url: the store named in the settings; None for one in the state folder of `out`.
    """
    return url or str(out.resolve() / STATE / "vectors")


def check_store(archive: Path, url: str) -> None:
    """Raise an error if the archive does not exist, or the store cannot be opened or lies inside the archive.

    Args:
        archive: folder of the photos.
        url: folder or URL of the vectors.

    Raises:
        ArchiveError: the archive does not exist, or the store cannot be opened or lies inside it, however it is
            written.
    """
    check_archive(archive)
    if folder := Store(url).folder:
        check_folders(archive, folder, "--store")


def write_vectors(table: pa.Table, where: Path | io.BytesIO) -> None:
    """Write a table uncompressed, so that a reader with a memory map copies its vectors without decoding.

    Its checksums, which `Store.read` verifies, reveal bytes that a disk has changed.
    """
    layout = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, where, write_page_checksum=True, **layout)


def vector_column(vectors: Vectors) -> pa.FixedSizeListArray:
    """Make a table's column of vectors, float32 (n, d)."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def vectors_of(column: pa.ChunkedArray) -> Vectors:
    """Read the vectors in a table's column: float32 (n, d).

    Raises:
        ValueError: the column is not of lists of one fixed length, as when another program wrote it.
    """
    if not pa.types.is_fixed_size_list(column.type):
        raise ValueError(f"the vectors are a column of {column.type}")
    vectors = column.combine_chunks()
    rows = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(column), vectors.type.list_size)
    return np.ascontiguousarray(rows, dtype=np.float32)


@dataclass(frozen=True)
class Store:
    """Tables by name under one address; a table is written atomically and never changed.

    Attributes:
        url: a folder, or a URL of fsspec with its credentials in the environment.
    """

    url: str

    def __post_init__(self) -> None:
        """Refuse an empty address, whose subfolders would lie in the root of the file system."""
        if not self.url.strip():
            raise ArchiveError("the address of the store of vectors is empty: name a folder or a URL")

    def under(self, name: str) -> "Store":
        """Return the store in a subfolder."""
        return Store(f"{self.url.rstrip('/')}/{name}")

    @property
    def folder(self) -> Path | None:
        """The folder on this machine that holds the tables; None where they lie elsewhere."""
        _, folder, local = self._location
        return Path(folder) if local else None

    @cached_property
    def _location(self) -> tuple[Any, str, bool]:
        """The address's file system, the folder in it, and whether that is a folder on this machine."""
        if "::" in self.url and "://" not in self.url:
            raise ArchiveError(f"{self.url}: no folder of vectors may have :: in its path; name another one")
        if (readable := encodable(self.url)) != self.url:
            raise ArchiveError(
                f"{readable}: no folder of vectors may have bytes in its path that are not UTF-8; rename it"
            )
        try:
            system, folder = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ArchiveError(
                f"no store can be opened at {self.url} ({error}): for s3:// {install_hint('s3')}"
            ) from error
        return system, str(folder).rstrip("/"), "file" in system.protocol

    def names(self, prefix: str = "") -> list[str]:
        """List the names of the tables with a prefix, sorted, without `.parquet`."""
        system, folder, _ = self._location
        system.invalidate_cache()
        try:
            file_names = (path.rsplit("/", 1)[-1] for path in system.ls(folder, detail=False))
        except FileNotFoundError:
            return []
        except Exception as error:  # each file system has its own errors, such as for missing credentials
            raise ArchiveError(
                f"the store {self.url} cannot be read ({error}): see whether its address is right, and its credentials"
            ) from error
        tables = (name.removesuffix(".parquet") for name in file_names if name.endswith(".parquet") and name[0] != ".")
        return sorted(name for name in tables if name.startswith(prefix))

    def write(self, name: str, table: pa.Table) -> None:
        """Write a table atomically, replacing one of that name."""
        buffer = io.BytesIO()
        write_vectors(table, buffer)
        self._put(f"{name}.parquet", buffer.getvalue())

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table, or some of its columns.

        Raises:
            ArchiveError: the table does not exist, or is not a Parquet file with these columns.
        """
        system, folder, local = self._location
        where: dict[str, Any] = {"memory_map": True} if local else {"filesystem": system}
        path, again = f"{folder}/{name}.parquet", "run the same command again"
        try:
            with reading_parquet(
                lambda reason: (
                    f"{name}.parquet of {self.url} is broken ({reason}): delete it and {again}, which makes it anew"
                )
            ):
                return pq.read_table(path, columns=columns, partitioning=None, page_checksum_verification=True, **where)
        except FileNotFoundError:
            raise ArchiveError(f"{self.url} holds no {name}.parquet any more: {again}") from None

    def delete_abandoned(self) -> None:
        """Delete half-written files of killed processes; only a store in a folder can have them."""
        _, folder, local = self._location
        if local:
            delete_abandoned(Path(folder))

    def delete(self, name: str) -> None:
        """Delete a table, if it exists."""
        system, folder, _ = self._location
        with suppress(FileNotFoundError):
            system.rm_file(f"{folder}/{name}.parquet")

    def note(self, name: str, value: object) -> None:
        """Write a small JSON file beside the tables."""
        self._put(f"{name}.json", json.dumps(value).encode())

    def noted(self, name: str) -> Any:
        """Read the value that `note` wrote under a name; None where there is none or its file is broken."""
        system, folder, _ = self._location
        try:
            return json.loads(system.cat_file(f"{folder}/{name}.json"))
        except (FileNotFoundError, ValueError):
            return None

    def _put(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        system, folder, local = self._location
        if not local:
            system.pipe_file(f"{folder}/{name}", data)
            return
        with replacing(Path(folder) / name) as partial:
            partial.write_bytes(data)
