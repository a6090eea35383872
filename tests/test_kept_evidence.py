"""Evidence that is kept from run to run: used where this verifier found it, found anew where another one did."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect.logging import disable_run_logger
from test_verify import scene

from neardup.arrays import Ints, Vectors
from neardup.decide.chosen_decision import shipped_decision
from neardup.detect.decoys import Decoys, search_decoys
from neardup.detect.duplicates import Duplicates, duplicates
from neardup.detect.verified_pairs import Verification
from neardup.detect.watch import watch
from neardup.encode.collection import Collection, encode_shard, known, new_shards, open_collection, present
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.images import MAX_PIXELS, read_image
from neardup.search.blocks import open_triangle, search_block
from neardup.search.exact_copies import KINDS, NEAR
from neardup.settings.schema import ClusterSettings, PrepareSettings
from neardup.stages import STATE, digest_file
from neardup.verify.candidates import CANDIDATES
from neardup.verify.evidence import ordered
from neardup.verify.store import EVIDENCE, EvidenceByPair, KeypointCache, read_evidence, write_evidence
from neardup.verify.verifier import Verifier, evidence_fingerprint
from tasks import duplicates as steps

TOLD = 777
"""Points that no verifier would count: evidence that says so was taken as it was kept."""


class Alike:
    """An encoder for which all photos are alike."""

    name, fingerprint, dimension = "alike", "alike", 2

    def read(self, source: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode."""
        return read_image(source, max_pixels=max_pixels)

    def encode(self, images: Sequence[Image.Image]) -> Vectors:
        """Float32 (n, 2), all equal."""
        return np.tile(np.array([[1.0, 0.0]], np.float32), (len(images), 1))


@dataclass(frozen=True)
class Search:
    """A search and the one pair of its photos that is no candidate though both match a third photo.

    Attributes:
        found: what was found.
        closing: the names of both photos.
    """

    found: Duplicates
    closing: frozenset[str]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A print, two parts of it and a stranger; the threshold lies above the least similarity of the first three."""
    folder = tmp_path_factory.mktemp("photos")
    whole = scene(1)
    for name, image in {
        "whole.png": whole,
        "left.png": whole.crop((0, 0, 290, 360)),
        "right.png": whole.crop((190, 0, 480, 360)),
        "stranger.png": scene(2),
    }.items():
        image.save(folder / name)
    store = str(tmp_path_factory.mktemp("store"))
    collection = open_collection(folder, store, BUILTIN, "cpu", "fp32", PrepareSettings())
    marks = present(collection)
    for paths in new_shards(collection, known(collection)):
        encode_shard(collection, paths)
    everything = searched(collection, marks, -1.0)
    pairs = everything.pairs
    names = [frozenset(everything.paths[row] for row in ends) for ends in zip(pairs.left, pairs.right, strict=True)]
    alike = [
        (value, pair)
        for value, pair in zip(pairs.similarities.tolist(), names, strict=True)
        if "stranger.png" not in pair
    ]
    (_, _), (second, _), (least, closing) = sorted(alike, key=lambda one: -one[0])
    return Search(searched(collection, marks, (least + second) / 2), closing)


def searched(collection: Collection, marks: Ints, threshold: float) -> Duplicates:
    """The pairs of all photos from a similarity on."""
    triangle = open_triangle(collection, threshold)
    for block in triangle.blocks():
        search_block(collection, threshold, block)
    return duplicates(triangle, marks, grouped=False)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Steps are called as the functions that they are, so that no server is needed."""
    monkeypatch.setattr(steps, "verify", steps.verify.fn)
    with disable_run_logger():
        yield


def verified(found: Duplicates, out: Path) -> tuple[Duplicates, EvidenceByPair]:
    """Verify as the flow does."""
    return steps.verify_all(found, out, ClusterSettings(), ClusterSettings())  # type: ignore[arg-type]


def told(evidence: EvidenceByPair) -> list[int]:
    """The points of each pair."""
    return [evidence[pair].inliers for pair in sorted(evidence)]


@pytest.mark.usefixtures("in_process")
def test_pairs_that_close_triangles_are_verified_by_the_flow(search: Search, tmp_path: Path) -> None:
    """They join the pairs with their similarity, and their evidence is kept with that of the others."""
    found = search.found
    closed, evidence = verified(found, tmp_path)
    photos = dict(zip(found.paths, found.contents, strict=True))
    one, other = search.closing
    closing = ordered(photos[one], photos[other])
    assert closing not in found.candidates
    assert set(closed.candidates) == {*found.candidates, closing}
    assert set(evidence) == set(closed.candidates)
    assert evidence[closing].matched
    ends = zip(closed.pairs.left.tolist(), closed.pairs.right.tolist(), strict=True)
    place = [{closed.paths[left], closed.paths[right]} for left, right in ends].index(search.closing)
    encoder = load_encoder(BUILTIN)
    vectors = encoder.encode([encoder.read(closed.collection.folder / name) for name in search.closing])
    assert closed.pairs.similarities[place] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert KINDS[closed.kinds[place]] == KINDS[NEAR]
    assert (np.diff(closed.pairs.similarities) <= 0).all()
    assert read_evidence(tmp_path / "duplicates" / EVIDENCE, evidence_fingerprint()) == evidence


@pytest.mark.usefixtures("in_process")
def test_the_flow_takes_evidence_of_its_own_verifier_only(search: Search, tmp_path: Path) -> None:
    """What another version found is found anew."""
    found = search.found
    _, evidence = verified(found, tmp_path)
    marked = [replace(one, inliers=TOLD) for one in evidence.values()]
    file = tmp_path / "duplicates" / EVIDENCE
    write_evidence(file, marked, evidence_fingerprint())
    assert told(verified(found, tmp_path)[1]) == [TOLD] * len(evidence)
    write_evidence(file, marked, "another")
    assert told(verified(found, tmp_path)[1]) == told(evidence)


@pytest.mark.parametrize(("fingerprint", "is_taken"), [(None, True), ("another", False)], ids=["own", "another"])
def test_watch_takes_evidence_of_its_own_verifier_only(
    tmp_path: Path,
    fingerprint: str | None,
    is_taken: bool,  # noqa: FBT001 - what is expected
) -> None:
    """That of the last `duplicates` is used for pairs that both look at."""
    photos, out = tmp_path / "archive" / "photos", tmp_path / "out"
    photos.mkdir(parents=True)
    scene(1).save(photos / "a.png")
    scene(2).save(photos / "b.png")

    def look(place: Path) -> EvidenceByPair:
        checked = Verification(None)
        seen = watch(tmp_path / "archive", place, PrepareSettings(), Alike(), 0.5, lambda _: None, None, checked)
        assert seen.verified
        return {(one.first, one.second): one for one in seen.verified.evidence if one}

    evidence = look(tmp_path / "first")
    marked = [replace(one, inliers=TOLD) for one in evidence.values()]
    write_evidence(out / "duplicates" / EVIDENCE, marked, fingerprint or evidence_fingerprint())
    assert told(look(out)) == ([TOLD] if is_taken else told(evidence))


def test_a_file_that_changes_while_it_is_verified_says_nothing_of_what_it_was(tmp_path: Path) -> None:
    """Its keypoints would be kept for the former content, and be taken for that content's ever after."""
    contents = {}
    for name, number in (("a.png", 1), ("b.png", 2)):
        scene(number).save(tmp_path / name)
        contents[digest_file(tmp_path / name)] = name
    scene(2).save(tmp_path / "a.png")
    verifier = Verifier.of_folder(tmp_path, contents, tmp_path / "state")
    changed, other = contents
    assert verifier.verify([ordered(changed, other)]) == {}
    cache = KeypointCache.in_state(tmp_path / "state")
    assert (cache.has(changed), cache.has(other)) == (False, True)


def test_a_verifier_of_a_folder_refuses_larger_images(tmp_path: Path) -> None:
    """No keypoints are made of a photo that is over the limit which it is told."""
    path_of = {}
    for name, number in (("a.png", 1), ("b.png", 2)):
        scene(number).save(tmp_path / name)
        path_of[digest_file(tmp_path / name)] = name
    verifier = Verifier.of_folder(tmp_path, path_of, tmp_path / "state", max_pixels=9)
    assert verifier.verify([ordered(*path_of)]) == {}


def test_a_decoy_is_told_once_and_with_its_likeliest_photo(tmp_path: Path) -> None:
    """Two files of one decoy are one; one that the collection has is none; the bound counts those that were linked."""
    photos, decoys = tmp_path / "photos", tmp_path / "decoys"
    for place in (photos, decoys):
        place.mkdir()
    for number in (1, 2, 3):
        scene(number).save(photos / f"{number}.png")
    scene(1).save(photos / "1 again.png")
    scene(3).save(decoys / "in the collection.png")
    scene(4).save(decoys / "foreign.png")
    scene(5).save(decoys / "linked.png")
    scene(5).save(decoys / "linked again.png")
    scene(5).resize((240, 180)).save(photos / "like it.png")
    scene(5).crop((150, 100, 470, 340)).rotate(15, expand=True).save(photos / "zz less like it.png")
    collection = open_collection(photos, str(tmp_path / "store"), BUILTIN, "cpu", "fp32", PrepareSettings())
    marks = present(collection)
    for paths in new_shards(collection, known(collection)):
        encode_shard(collection, paths)
    decision = shipped_decision(collection.fingerprint)
    assert decision

    def bound(threshold: float) -> Decoys:
        triangle = open_triangle(collection, threshold, most=CANDIDATES)
        return search_decoys(triangle, marks, decoys, load_encoder(BUILTIN), decision, tmp_path / STATE)

    found = bound(-1.0)
    assert (found.false_links.decoys, found.left_out, found.false_links.linked) == (2, 1, 1)
    assert found.false_links.photos == 6
    (linked,) = found.linked
    assert linked.photo == "like it.png"
    assert linked.decoy.startswith("linked")
    assert linked.probability > decision.bands.link
    assert "has the same frame as" in linked.sentence
    assert bound(1.0).linked == ()  # as in the collection, what is less alike is no candidate
