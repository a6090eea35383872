"""Bound on the photos with a false link, by decoys: foreign photographs that are searched for in a collection."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neardup.archive.scan import scan
from neardup.archive.walk import Skipped
from neardup.arrays import Ints
from neardup.decide.decision import Decision
from neardup.decide.promises import FalseLinks, photos_with_false_links
from neardup.detect.hits import verify_hits
from neardup.encode.collection import Files, Present, encoded_photos
from neardup.encode.encoder import Encoder
from neardup.encode.vectors import embed_photos
from neardup.errors import ArchiveError
from neardup.images import read_content
from neardup.search.blocks import Triangle
from neardup.search.exact_copies import rows_of
from neardup.search.nearest import Hit, nearest_rows
from neardup.tables import save_rows
from neardup.verify.candidates import CANDIDATES
from neardup.words import counted


@dataclass(frozen=True)
class LinkedDecoy:
    """A decoy that was linked to a photo of the collection: a false link, unless the picture is in both folders.

    Attributes:
        decoy: path in the folder of decoys.
        photo: path in the collection.
        similarity: similarity of the vectors, -1 to 1.
        probability: probability of being near-duplicates, 0 to 1.
        sentence: what local features say, in words.
    """

    decoy: str
    photo: str
    similarity: float
    probability: float
    sentence: str


@dataclass(frozen=True)
class Decoys:
    """What a search for decoys found.

    Attributes:
        false_links: the bound, and what it rests on.
        left_out: photographs that are in the collection byte for byte and thus are no decoys.
        unreadable: files and folders of the decoys that cannot be read.
        linked: the best link of each decoy that has one.
    """

    false_links: FalseLinks
    left_out: int
    unreadable: tuple[Skipped, ...]
    linked: tuple[LinkedDecoy, ...]

    @property
    def summary(self) -> str:
        """The bound in words, with the photographs that were left out and the decoys that were linked."""
        lines = self.false_links.sentence()
        if self.left_out:
            lines += f" Left out, for the collection has the same bytes: {counted(self.left_out, 'decoy')}."
        if self.unreadable:
            first = self.unreadable[0]
            lines += f" {len(self.unreadable):,} more could not be read; the first: {first.path} ({first.reason})."
        if self.linked:
            lines += " Those that were linked are in decoys.csv: look whether the collection has them after all."
        return lines

    def write(self, folder: Path) -> Path:
        """Write `decoys.csv`, one row per linked decoy."""
        save_rows(folder / "decoys.csv", LinkedDecoy, self.linked)
        return folder / "decoys.csv"


def search_decoys(
    triangle: Triangle, present: Present, folder: Path, encoder: Encoder, decision: Decision, state: Path
) -> Decoys:
    """Search for each photograph of a folder in a collection, and count those that are linked.

    A decoy is compared with its nearest, at the triangle's threshold. A photo of the collection is also compared with
    those that have it among their nearest, which would take a search of the whole collection for each decoy: of 55
    photographs with a false link among 3,144, three had it by that alone.

    Args:
        triangle: the completed search of the collection.
        present: what a walk through the collection's folder found.
        folder: folder of the decoys; it is only read.
        encoder: encoder of the collection.
        decision: decision that links pairs.
        state: folder that keeps the decoys' vectors and all keypoints.

    Raises:
        ArchiveError: the folder holds no photo that can be read.
    """
    limit, root = triangle.collection.max_pixels, triangle.collection.folder
    table = state / "decoys" / "scan.parquet"
    listed = scan(folder, table=table, patterns=("**",), exclude=(), max_pixels=limit)
    items = list({photo.sha256: photo.path for photo in reversed(listed.photos)}.items())
    if not items:
        raise ArchiveError(f"{folder} holds no photo that can be read: name a folder of photographs with --decoys")
    path_and_photo = [(path, photo) for photo, path in sorted(items, key=lambda item: item[1])]
    decoys = embed_photos(path_and_photo, folder, encoder, store=state / "decoys" / "vectors", max_pixels=limit)
    collected = encoded_photos(triangle.collection, present.marks)
    rows, photos, paths = _gallery(triangle, collected)
    foreign = ~np.isin(decoys.photos, photos)
    vectors = triangle.vectors(rows)
    queries = [(photo, Path(path).name) for photo, path in zip(decoys.photos, decoys.paths, strict=True)]
    searched = np.flatnonzero(foreign).tolist()
    hits = [
        [Hit(paths[row], photos[row], similarity) for row, similarity in best if similarity >= triangle.threshold]
        for best in nearest_rows(decoys.vectors[foreign], vectors, CANDIDATES)
    ]
    files = {photo: root / path for photo, path in zip(photos, paths, strict=True)}
    files |= {photo: folder / path for photo, path in zip(decoys.photos, decoys.paths, strict=True)}
    verified = verify_hits(
        [queries[row] for row in searched],
        hits,
        lambda photo: read_content(files[photo], photo),
        state,
        decision,
        limit,
    )
    linked = []
    for row, best, found_hits in zip(searched, hits, verified, strict=True):
        links = [(hit, found) for hit, found in zip(best, found_hits, strict=True) if found and found.band == "link"]
        if links:
            hit, found = max(links, key=lambda link: (link[1].probability or 0.0, link[0].path))
            chance = found.probability or 0.0
            linked.append(LinkedDecoy(decoys.paths[row], hit.path, hit.similarity, chance, found.sentence))
    bound = photos_with_false_links(len(collected.contents), len(searched), len(linked))
    return Decoys(bound, len(queries) - len(searched), tuple(listed.left_out), tuple(linked))


def _gallery(triangle: Triangle, files: Files) -> tuple[Ints, list[str], list[str]]:
    """List row, SHA-256 and path of each distinct photo of a collection that is still there, in the order of rows."""
    contents, chosen = np.unique(files.contents, return_index=True)
    rows = rows_of(contents, triangle.contents())
    order = np.argsort(rows)
    return rows[order], files.photos(chosen[order]), files.paths(chosen[order])
