"""A small press archive made by code, with the mess of a real one, and new photos: for the demo and the tests.

Its layout, its sheets and its faults are those of the archive that neardup was made for; its photographs are drawn.
"""

import struct
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
from PIL import Image

from neardup.builtin.scenes import LANGUAGES, Scene
from neardup.errors import ArchiveError
from neardup.images import read_image
from neardup.stages import digest_file, digest_of, read_json, replacing, write_json
from neardup.train.press import press

STEP = 1
"""Version of the drawings, raised when equal arguments would make another archive."""
BOMB = 20_000
"""Pixels of a side of the decompression bomb: its 400 megapixels are 50 kB."""
ISSUE_PHOTOS = 12
"""Photos of an issue, whose legends stand in one workbook."""
NEW_COPIES = 3
"""New photos that are copies of test photos, and as many of training photos."""
NEW_STRANGERS = 3
"""Number of new photos that show what no photo of the archive shows."""
_SEASONS = ("28 nov 1911", "3 fév 1912", "14 août 1914", "2 déc 1915")
"""Dates in the names that a reporter's prints have, with accents."""
_REPORTERS = ("Chérau", "Léon Gimpel", "Müller", "Branger")
"""Names of the reporters, with accents."""
_HEADERS = (
    ("Num page", "Num photo", "Légende"),
    ("num page", "Num Photo", "legendes"),
    ("Num page", "num Photo", "légendes"),
    ("num page", "num photo", "Legend"),
)
"""Column names of legend sheets, as untidy as in a real archive; one row of names per issue."""


@dataclass(frozen=True)
class MadeArchive:
    """An archive made by code, with its true groups, legends and faults.

    Attributes:
        root: the archive's folder.
        groups: the true groups: paths of photos, relative to `root`; a group of one is a singleton.
        training: path → legend of each photo that training may use.
        faults: kind of fault → names or paths that the discrepancy report must hold.
    """

    root: Path
    groups: tuple[tuple[str, ...], ...]
    training: dict[str, str]
    faults: dict[str, list[str]] = field(default_factory=dict)


def make_archive(root: Path, groups: int = 24, training: int = 96, seed: int = 0) -> MadeArchive:
    """Draw an archive, unless it was drawn before with the same arguments.

    The drawn files are listed, with their digests, beside the archive: only such files are ever deleted.

    Args:
        root: the folder to write: empty, or made by this function, which then makes its own files anew.
        groups: groups of similar photos, half of them singletons.
        training: photos with legends.
        seed: another one draws another archive.

    Raises:
        ArchiveError: `root` was not made by this function, or a file of somebody else lies where one is to be drawn.
    """
    key = digest_of(STEP, groups, training, seed)
    if facts := _finished(root, key):
        return MadeArchive(root, tuple(map(tuple, facts["groups"])), facts["training"], facts["faults"])
    drawing = _Drawing(root, seed)
    true_groups = drawing.draw_groups(groups)
    legends = drawing.draw_training(training)
    drawing.plant_faults(true_groups)
    drawing.write_ground_truth(true_groups)
    drawing.finish(key, {"groups": true_groups, "training": legends, "faults": drawing.faults})
    return MadeArchive(root, tuple(map(tuple, true_groups)), legends, drawing.faults)


def make_new_photos(root: Path, archive: MadeArchive, seed: int = 0) -> Path:
    """Draw new photos for a drawn archive; those that were drawn before with the same arguments are left as they are.

    There are copies of photos of the archive with damages of the press, most of them called as their originals and one
    that `queries.csv` names, strangers to the archive, and a file that is no photo.

    Args:
        root: the folder to write: empty, or made by this function, which then makes its own files anew.
        archive: what the copies are of.
        seed: another one draws other damages and strangers.

    Returns:
        The folder.

    Raises:
        ArchiveError: `root` was not made by this function, or a file of somebody else lies where one is to be drawn.
    """
    originals = [group[0] for group in archive.groups[:NEW_COPIES]] + list(archive.training)[:NEW_COPIES]
    key = digest_of(STEP, NEW_COPIES, NEW_STRANGERS, originals, seed)
    if _finished(root, key):
        return root
    drawing = _Drawing(root, seed)
    for i, path in enumerate(originals):
        name = f"{Path(path).stem}.jpg" if i else "out_of_a_weekly.jpg"
        drawing.save(press(read_image(archive.root / path), 1000 * seed + i), name)
    drawing.write(f"query,photo\nout_of_a_weekly.jpg,{Path(originals[0]).stem}\n".encode(), "queries.csv")
    # The last scenes of a seed, which no archive of less than a million photos shows.
    for i in range(1, NEW_STRANGERS + 1):
        drawing.save(Scene.of(1_000_000 * (seed + 1) - i).image, f"strangers/stranger_{i}.jpg")
    drawing.write(b"this is no picture", "text.jpg")
    drawing.finish(key, {})
    return root


def _finished(root: Path, key: str) -> dict[str, Any]:
    """Read the record of a finished drawing with a key; empty without one, if the folder is free for it.

    Raises:
        ArchiveError: the folder holds files and was not drawn by us.
    """
    marker = _beside(root, "json")
    if marker.is_file():
        facts = read_json(marker)
        there = all((root / path).is_file() for _, path in _drawn(root))
        if facts.get("key") == key and facts.get("finished") and there:
            return facts
        _delete_drawn(root)
    elif root.exists() and any(root.iterdir()):
        raise ArchiveError(f"{root} holds files that were not drawn by neardup: name another folder with --out")
    write_json(marker, {"key": key, "finished": False})
    return {}


def _beside(root: Path, suffix: str) -> Path:
    """A hidden file beside a drawn folder: `json` says what was drawn, `sha256` lists the files with their digests."""
    return root.with_name(f".{root.name}.{suffix}")


def _drawn(root: Path) -> list[tuple[str, str]]:
    """Digest and path, below a drawn folder, of each file that was drawn there."""
    log = _beside(root, "sha256")
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return [(line.partition("  ")[0], line.partition("  ")[2]) for line in lines]


def _delete_drawn(root: Path) -> None:
    """Delete the files that a former call drew, as long as they are what it drew, and folders that are empty then."""
    for digest, path in _drawn(root):
        file = root / path
        if path and file.is_file() and digest_file(file) == digest:
            file.unlink()
            with suppress(OSError):  # the folder holds something else
                for folder in file.relative_to(root).parents[:-1]:
                    (root / folder).rmdir()
    _beside(root, "sha256").unlink(missing_ok=True)


class _Drawing:
    """An archive that is being made: where it lies, and the faults planted so far."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.log = _beside(root, "sha256")
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.faults: dict[str, list[str]] = {}
        self.scenes = iter(range(1_000_000 * seed, 1_000_000 * (seed + 1)))

    def finish(self, key: str, facts: Mapping[str, object]) -> None:
        """Record that everything is drawn, and the facts about it."""
        write_json(_beside(self.root, "json"), {"key": key, "finished": True, **facts})

    def scene(self) -> Scene:
        """The next scene; each is drawn once."""
        return Scene.of(next(self.scenes))

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        """Yield a path to write to, which becomes the file at `path` of the archive; its digest is logged before.

        Raises:
            ArchiveError: somebody else's file lies there.
        """
        with replacing(self.root / path) as partial:
            yield partial
            if (self.root / path).exists():
                raise ArchiveError(
                    f"{self.root / path} was not drawn by neardup, or was changed since: move it away, or name another "
                    "folder with --out"
                )
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{digest_file(partial)}  {path}\n")

    def save(self, image: Image.Image, path: str, kind: str = "JPEG") -> str:
        """Write a picture in one of Pillow's formats, whatever its suffix."""
        with self.file(path) as partial:
            image.save(partial, kind, quality=88)
        return path

    def write(self, data: bytes, path: str) -> str:
        """Write a file of these bytes."""
        with self.file(path) as partial:
            partial.write_bytes(data)
        return path

    def plant(self, kind: str, name: str) -> None:
        """Remember a fault that was planted."""
        self.faults.setdefault(kind, []).append(name)

    def draw_groups(self, count: int) -> list[list[str]]:
        """Groups of three to five prints of one scene, and as many singletons."""
        groups = []
        for group in range(count):
            scene = self.scene()
            size = 1 if group % 2 else int(self.rng.integers(3, 6))
            prints = [scene.image, *(press(scene.image, scene.seed * 100 + i) for i in range(1, size))]
            groups.append([self.save(image, _test_path(group, i)) for i, image in enumerate(prints)])
        return groups

    def draw_training(self, count: int) -> dict[str, str]:
        """Issues with a sheet each, whose rows say what is on the photos; path → legend."""
        legends: dict[str, str] = {}
        for start in range(0, count, ISSUE_PHOTOS):
            issue = start // ISSUE_PHOTOS
            collection = ("surlevif", "guerreillustree", "fonds_forbin")[issue % 3]
            name = f"{collection[:3]}_{1911 + issue % 4}{issue:03d}"
            folder = f"{collection}/{name}"
            rows: list[list[object]] = []
            for i in range(start, min(count, start + ISSUE_PHOTOS)):
                page, photo = 1 + (i - start) // 3, 1 + (i - start) % 3
                path = f"{folder}/photos/jpg/{_photo_name(collection, name, page, photo)}.jpg"
                scene = self.scene()
                self.save(press(scene.image, scene.seed) if i % 3 else scene.image, path)
                language = LANGUAGES[int(self.rng.choice(4, p=(0.55, 0.15, 0.1, 0.2)))]
                legend = legends[path] = scene.legend(language)
                rows.append([_number(page, i), _number(photo, i + 1), _untidy(legend, i)])
            self.save(press(self.scene().image, issue), f"{folder}/pages/jpg/{name}_page_1.jpg")
            self.sheet(folder, name, issue, rows)
        return legends

    def sheet(self, folder: str, name: str, issue: int, rows: list[list[object]]) -> None:
        """Write an issue's legend sheet with its usual mess: blank rows, a lock file, a row without a photo."""
        rows.insert(len(rows) // 2, [None, None, None])
        rows.append([issue + 1, "/", "Vue générale, sans numéro de photo."])
        if issue == 0:
            rows.append([99, 1, "Une photographie qui n'existe pas."])
            self.plant("not found", _photo_name(folder.split("/", maxsplit=1)[0], name, 99, 1))
            rows.append([1, "=1+1", "Un numéro qui est une formule."])
            self.plant("unsafe cell", "=1+1")
            rows.append(["../../..", 2, "Une page hors du dossier."])
            self.plant("unsafe cell", "../../..")
            rows.append([98, 1, "=cmd()"])
            self.plant("unsafe cell", "=cmd()")
        self.workbook(f"{folder}/{name}.xlsx", [list(_HEADERS[issue % len(_HEADERS)]), *rows])
        if issue % 2:
            self.write(b"\x05neardup", f"{folder}/~${name}.xlsx")

    def workbook(self, path: str, rows: Sequence[Sequence[object]]) -> None:
        """Write rows as Excel would; text that begins with = is a formula."""
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(list(row))
        with self.file(path) as partial:
            book.save(partial)

    def plant_faults(self, groups: list[list[str]]) -> None:
        """Files that are not what they should be, a leak, and one name for two photos."""
        folder = "presse/photos/jpg"
        photo_bytes = (self.root / groups[0][0]).read_bytes()
        broken = {
            "truncated.jpg": photo_bytes[: len(photo_bytes) // 3],
            "empty.jpg": b"",
            "text.jpg": b"this is no picture",
            "bomb.png": _bomb(),
        }
        for name, data in broken.items():
            self.plant("unreadable", self.write(data, f"{folder}/{name}"))
        self.plant("note", self.save(self.scene().image, f"{folder}/really_a_png.jpg", "PNG"))
        with self.file(f"{folder}/four_inks.jpg") as partial:
            self.scene().image.convert("CMYK").save(partial, "JPEG")
        self.plant("note", f"{folder}/four_inks.jpg")
        deep = np.asarray(self.scene().image.convert("L"), dtype=np.uint16) * 257
        with self.file(f"{folder}/sixteen_bits.tif") as partial:
            Image.fromarray(deep).save(partial)
        self.plant("note", f"{folder}/sixteen_bits.tif")
        self.write(b"this is no workbook", "surlevif/broken/broken.xlsx")
        self.plant("unreadable", "surlevif/broken/broken.xlsx")
        self._leak(groups)
        self._namesakes(groups)

    def _leak(self, groups: list[list[str]]) -> None:
        """File a test photo again, byte for byte, among the training photos, with a legend of its own."""
        path = f"surlevif/leak/photos/jpg/{_photo_name('surlevif', 'leak', 1, 1)}.jpg"
        self.write((self.root / groups[0][0]).read_bytes(), path)
        self.workbook("surlevif/leak/leak.xlsx", [["Num page", "Num photo", "Légende"], [1, 1, "Une photo connue."]])
        self.plant("left out", path)

    def _namesakes(self, groups: list[list[str]]) -> None:
        """Two folders, one name, two pictures: each a singleton, told apart in the sheet by its folder."""
        for place in ("agence_rol", "presse"):
            path = self.save(self.scene().image, f"{place}/photos/jpg/namesake_01.jpg")
            groups.append([path])
            self.plant("ambiguous", path)

    def write_ground_truth(self, groups: Sequence[Sequence[str]]) -> None:
        """Write `donnees_IS.xlsx`: names without extension, accents composed where the disk has them decomposed."""
        rows: list[list[str]] = []
        for number, paths in enumerate(groups):
            cells = []
            for path in paths:
                name = Path(path).stem
                name = f"{Path(path).parts[0]}/{name}" if "namesake" in name else _other_form(name)
                cells.append(f"{name}.jpg" if number % 7 == 3 else name)  # noqa: PLR2004
            rows.append(cells)
        first = rows[0]
        first[2] = "".join(
            letter for letter in unicodedata.normalize("NFD", first[2]) if not unicodedata.combining(letter)
        )
        misspelt = f"{rows[0][0][:-1]}x"
        rows[0].append(misspelt)
        self.plant("not found", misspelt)
        rows[1].append("perdue_1911_01")
        self.plant("not found", "perdue_1911_01")
        rows[2].append("../../../etc/passwd")
        self.plant("unsafe cell", "../../../etc/passwd")
        rows[2].append("=1+2")
        self.plant("unsafe cell", "=1+2")
        self.workbook("donnees_IS.xlsx", rows)


def _other_form(name: str) -> str:
    """Compose decomposed accents, and the other way round."""
    return unicodedata.normalize("NFC" if unicodedata.is_normalized("NFD", name) else "NFD", name)


def _test_path(group: int, i: int) -> str:
    """Where the i-th photo of a group lies: the agency's number, a newspaper's page, or a reporter's words."""
    if i == 0:
        return f"agence_rol/photos/jpg/btv1b{53112000 + 7 * group}z_1.jpg"
    if i % 2:
        return f"presse/photos/jpg/Aamulehti_1911{1 + group % 12:02d}{1 + i:02d}_P{group}_{i:02d}.jpg"
    name = f"1_{_REPORTERS[group % 4]}_{_SEASONS[group % 4]}_Scène n° {group} ({i})"
    return f"presse/photos/jpg/{unicodedata.normalize('NFD' if group % 4 else 'NFC', name)}.jpg"


def _photo_name(collection: str, issue: str, page: int, photo: int) -> str:
    """The name that `settings.schema.PATTERNS` gives a photo, written out again so that the patterns are tested."""
    return (
        f"pho_{issue}_{page:02d}_{photo:02d}"
        if collection == "fonds_forbin"
        else f"np_{collection}_{issue}_{page:02d}_{photo:02d}"
    )


def _number(number: int, i: int) -> object:
    """A number as the sheets have it: 3, 3.0, "3" or "03"."""
    return (number, float(number), str(number), f"{number:02d}")[i % 4]


def _untidy(legend: str, i: int) -> str:
    """A legend as the sheets have it: a line break here, too many spaces there."""
    return (legend, legend.replace(", ", ",\n", 1), f"  {legend.replace(' ', '  ', 1)} ")[i % 3]


def _bomb() -> bytes:
    """A PNG of 400 megapixels in a few kilobytes, written by hand since no image of that size need exist for it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", BOMB, BOMB, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1 + BOMB // 8) * BOMB, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
