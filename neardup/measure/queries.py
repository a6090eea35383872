"""Searches for new photos by every approach: the rank at which each original is found, and how near strangers are.

The prior project's notebooks ended like this: new photos, four variants of each, and the most similar photos of the
archive. Here they are searched for in the test set and the training set, and among each other.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neardup.archive.new_photos import COPY, FOLDER, STRANGER, searched_photos
from neardup.arrays import Floats, Vectors
from neardup.encode.encoder import Encoder
from neardup.encode.vectors import Embeddings, embed_photos
from neardup.images import MAX_PIXELS
from neardup.measure.scored import similarities_between
from neardup.stages import STATE, write_json
from neardup.tables import load_table, write_csv
from neardup.words import typed

SEARCH_STEP = 2
"""Version of the search for new photos; bumped when its result changes for equal inputs."""
QUERIES_TABLE = f"{STATE}/queries.csv"
"""Table of all queries, rows of `Query`, in the output folder."""
SENTENCES = f"{STATE}/queries.txt"
"""Text file in the output folder: a line for each file or name of the new photos that cannot be used."""
PHOTO = "photo"
"""Name of the variant that is the unchanged new photo."""
ARCHIVE, QUERIES = "archive", "queries"
"""Names of the galleries: the test set with the training set, or all other new photos and variants."""
SHOWN_HITS = 5
"""Hits of each search that are written, as many as the report shows."""
FILES = ("new_queries.csv", "new_queries.json")
"""Files that a search for new photos writes into an approach's folder, where `queries.csv` is of the test set."""


@dataclass(frozen=True)
class Query:
    """One file that is searched for: a new photo or a variant of it.

    Attributes:
        name: its path in the output folder: `queries/…`.
        sha256: SHA-256 of its bytes.
        photo: path of the new photo in the user's folder.
        variant: `photo`, `flip`, `rotate`, `color` or `resize`.
        kind: `copy`, `stranger` or `unknown`.
        original: path of a copy's original in the archive; else empty.
    """

    name: str
    sha256: str
    photo: str
    variant: str
    kind: str
    original: str

    @property
    def title(self) -> str:
        """Name in tables and pages: the path in the folder of queries."""
        return self.name.removeprefix(f"{FOLDER}/")


@dataclass(frozen=True)
class QueryHit:
    """One hit of a search for a new photo.

    Attributes:
        file: path of the hit in the output folder.
        name: path in the archive, or title of the query.
        similarity: -1 to 1, higher is more alike.
        above: whether its similarity reaches the threshold, so that it is called a near-duplicate.
        right: whether it is right; None where that is unknown, or it is neither right nor wrong.
    """

    file: str
    name: str
    similarity: float
    above: bool
    right: bool | None


@dataclass(frozen=True)
class Answer:
    """The result of an approach for one query in one gallery.

    Attributes:
        query: path of the new photo in the user's folder.
        variant: `photo`, `flip`, `rotate`, `color` or `resize`.
        gallery: `archive` for test set and training set, `queries` for all other new photos and variants.
        kind: `copy`, `stranger` or `unknown`.
        original: photo to be found: in the archive, a copy's original; among the queries, the new photo itself.
        rank: rank of the original among the photos of other pictures, from 1; the original is last among equally
            similar photos. Other prints of the picture, and other variants, do not count. None without an original.
        nearest: the most similar photo; of equally similar ones, one of another picture.
        similarity: similarity of the nearest, -1 to 1.
        threshold: calibrated threshold of the approach, at or above which photos are called near-duplicates; None if
            none could be calibrated.
        above: 1 if the nearest photo is called a near-duplicate, else 0.
        file: path of the query in the output folder.
        hits: the most similar photos, best first.
    """

    query: str
    variant: str
    gallery: str
    kind: str
    original: str
    rank: int | None
    nearest: str
    similarity: float
    threshold: float | None
    above: int
    file: str = ""
    hits: tuple[QueryHit, ...] = ()


COLUMNS = tuple(field.name for field in fields(Answer))[:-2]
"""The columns of `new_queries.csv`; paths of pictures are only in `new_queries.json`."""


@dataclass(frozen=True)
class Gallery:
    """Photos that are searched, with their vectors.

    Attributes:
        title: `archive` or `queries`.
        files: path of each photo in the output folder.
        names: name of each in tables and pages.
        pictures: str (n,), equal for photos that show the same picture.
        vectors: float32 (n, d), unit rows.
    """

    title: str
    files: Sequence[str]
    names: Sequence[str]
    pictures: npt.NDArray[np.str_]
    vectors: Vectors

    def search(self, query: Query, vector: Vectors, picture: str, original: str, threshold: float | None) -> Answer:
        """Search for one query; the query itself, if the gallery holds it, is skipped.

        Args:
            query: the query.
            vector: float32 (d,), unit vector of the query.
            picture: identifier of the picture that it shows.
            original: name of the photo in the gallery that is to be found, or empty.
            threshold: threshold calibrated for the encoder; None if none could be.
        """
        [scores] = similarities_between(vector[None].astype(np.float64), self._wide)
        same = self.pictures == picture
        rank = None
        if original:
            rank = 1 + int((scores[~same] >= scores[self.names.index(original)]).sum())
        if self.title == QUERIES:
            scores[self.files.index(query.name)] = -np.inf
        hits = []
        for i in np.lexsort((same, -scores))[: min(SHOWN_HITS, np.isfinite(scores).sum())].tolist():
            above = threshold is not None and bool(scores[i] >= threshold)
            right = _is_right(query, self.title, same=bool(same[i]), above=above)
            hits.append(QueryHit(self.files[i], self.names[i], float(scores[i]), above, right))
        facts = (query.photo, query.variant, self.title, query.kind, original, rank, hits[0].name, hits[0].similarity)
        return Answer(*facts, threshold, int(hits[0].above), query.name, tuple(hits))

    @cached_property
    def _wide(self) -> Floats:
        """The vectors, float64 (n, d): similarities of float32 vectors are summed in float64."""
        return self.vectors.astype(np.float64)


def _is_right(query: Query, gallery: str, *, same: bool, above: bool) -> bool | None:
    """Whether a hit is right, or None; a stranger has no right hit, and its hits below the threshold are not wrong."""
    if gallery == QUERIES or query.kind == COPY:
        return same
    return False if query.kind == STRANGER and above else None


def search_queries(folder: Path, encoder: Encoder, store: str | Path, max_pixels: int = MAX_PIXELS) -> list[Path]:
    """Search for every query by one approach, and write `new_queries.csv` and `new_queries.json`.

    Args:
        folder: folder of an evaluated approach, in an output folder whose queries have been written.
        encoder: encoder of the approach.
        store: folder or URL of vectors; after a kill at any moment, the next call continues.
        max_pixels: larger photos are refused.

    Returns:
        The files.
    """
    out = folder.parent
    queries = load_table(out / QUERIES_TABLE, Query, f"run `neardup experiment` for {typed(out)} again")
    searched = searched_photos(out)
    test_embeddings = Embeddings.load(folder / "vectors.parquet")
    test_embeddings.require(encoder.fingerprint)
    training = [(photo.name, photo.sha256) for photo in searched[len(test_embeddings.photos) :]]
    training_vectors, query_vectors = (
        embed_photos(items, out, encoder, store=store, max_pixels=max_pixels).vectors
        for items in (training, [(query.name, query.sha256) for query in queries])
    )
    pictures = {photo.path: photo.picture for photo in searched}
    picture_of_query = [pictures.get(query.original, f"new {query.photo}") for query in queries]
    galleries = (
        Gallery(
            ARCHIVE,
            [photo.name for photo in searched],
            [photo.path for photo in searched],
            np.array([photo.picture for photo in searched]),
            np.concatenate([test_embeddings.vectors, training_vectors]),
        ),
        Gallery(
            QUERIES,
            [query.name for query in queries],
            [query.title for query in queries],
            np.array(picture_of_query),
            query_vectors,
        ),
    )
    photos = {query.photo: query.title for query in queries if query.variant == PHOTO}
    threshold = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["threshold"]
    answers = []
    for query, vector, picture in zip(queries, query_vectors, picture_of_query, strict=True):
        new_photo = "" if query.variant == PHOTO else photos[query.photo]
        for gallery, original in zip(galleries, (query.original, new_photo), strict=True):
            answers.append(gallery.search(query, vector, picture, original, threshold))
    write_csv(folder / FILES[0], COLUMNS, ([getattr(answer, name) for name in COLUMNS] for answer in answers))
    write_json(folder / FILES[1], [asdict(answer) for answer in answers])
    return [folder / name for name in FILES]


def load_answers(folder: Path) -> list[Answer]:
    """Read the answers of an approach that `search_queries` wrote."""
    rows = json.loads((folder / FILES[1]).read_text(encoding="utf-8"))
    return [Answer(**{**row, "hits": tuple(QueryHit(**hit) for hit in row["hits"])}) for row in rows]


def summary(answers: Sequence[Answer]) -> dict[str, float]:
    """Summarise one approach's answers in figures.

    `copies` and `variants` are the numbers of queries with an original in the archive and among the queries; for each,
    `…_top_1` is the share whose original is the first hit, and `…_mrr` the mean of 1 / rank. `strangers` is the number
    of queries that show a stranger, and `strangers_above` the number of those for which a photo of the archive is
    called a near-duplicate.
    """
    figures: dict[str, float] = {}
    for gallery, name in ((ARCHIVE, "copies"), (QUERIES, "variants")):
        ranks = [answer.rank for answer in answers if answer.gallery == gallery and answer.rank is not None]
        figures[name] = len(ranks)
        if ranks:
            figures[f"{name}_top_1"] = float(np.mean([rank == 1 for rank in ranks]))
            figures[f"{name}_mrr"] = float(np.mean([1 / rank for rank in ranks]))
    strangers = [answer.above for answer in answers if answer.gallery == ARCHIVE and answer.kind == STRANGER]
    return figures | {"strangers": len(strangers), "strangers_above": sum(strangers)}
