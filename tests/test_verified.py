"""Approaches measured verified: scores, decision and tables of a made test set."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageOps

from neardup.archive.testset import TestPhoto, TestSet
from neardup.builtin.scenes import Scene
from neardup.decide.chosen_decision import SHIPPED, own_decision
from neardup.decide.decision import Decision, decide
from neardup.decide.groups import DecidedPairs, group_pairs
from neardup.decide.probability import CandidatePairs, out_of_fold, scored_square
from neardup.decide.reliability import reliability_bins
from neardup.encode.encoder import BUILTIN, load_encoder
from neardup.errors import ArchiveError
from neardup.measure.evaluate import FOLDS, Distractors, Evaluation, evaluate
from neardup.measure.verified_approaches import TELLING, _telling, by_cosine, verify_approaches
from neardup.stages import digest_file
from neardup.verify.evidence import Evidence
from neardup.verify.store import EVIDENCE, read_evidence
from neardup.verify.verifier import Verifier


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set of twelve scenes, nine of them with a mirrored copy, evaluated by the shipped encoder."""
    out = tmp_path_factory.mktemp("results")
    (out / "test_dataset").mkdir()
    photos = []
    for number in range(12):
        scene = Scene.of(number).image
        for name, image in {"a": scene, "b": ImageOps.mirror(scene)}.items():
            if name == "a" or number < 9:
                path = out / "test_dataset" / f"{number:02d}{name}.png"
                image.save(path)
                photos.append(TestPhoto(path.name, path.name, digest_file(path), number + 1, number + 2))
    test_set = TestSet(tuple(photos))
    test_set.save(out)
    encoder = load_encoder(BUILTIN)
    vectors = encoder.encode([encoder.read(out / "test_dataset" / photo.name) for photo in photos])
    names = [photo.name for photo in photos]
    measured = evaluate(vectors, test_set.groups, names, approach="zero-shot", fingerprint=encoder.fingerprint)
    measured.save(out / "zero-shot")
    return out


def test_an_approach_is_measured_by_vectors_and_verified(results: Path) -> None:
    """Both columns are there, the copies are found, and the decision is that of the encoder."""
    found = verify_approaches(results, lambda _: None)["zero-shot"]
    assert found.comparison.approaches == ["zero-shot", "zero-shot, verified"]
    assert found.recall == 1
    assert found.groups["correlation clustering"] == (1, 0, 0)
    assert found.facts()["groups"]["complete linkage"].keys() == {"b3_f1", "over_merged", "over_split"}  # type: ignore[index]
    assert found.comparison.figures["top_1"]["zero-shot, verified"].value == 1
    fingerprint = Evaluation.load(results / "zero-shot").fingerprint
    assert own_decision(results, fingerprint) == Decision.load(results / "zero-shot" / "decision.json")
    assert own_decision(results, "another") is None
    (results / "duplicates").mkdir(exist_ok=True)
    shutil.copy(SHIPPED, results / "duplicates" / "decision.json")
    assert own_decision(results, fingerprint) == Decision.load(results / "zero-shot" / "decision.json")


def test_what_is_measured_is_out_of_fold(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, bins, groups, decision: by models that saw none of a pair's groups; promises are those asked for."""
    grouped: list[DecidedPairs] = []
    listened = lambda count, pairs: (grouped.append(pairs), group_pairs(count, pairs))[1]  # noqa: E731 - one line
    monkeypatch.setattr("neardup.measure.verified_approaches.group_pairs", listened)
    found = verify_approaches(results, lambda _: None, promises=(0.6, 0.7))["zero-shot"]
    measured, by_probability = found.comparison.evaluations
    sha_of = {photo.name: photo.sha256 for photo in TestSet.load(results).photos}
    known = read_evidence(results / ".neardup" / EVIDENCE)
    rows, evidence = Verifier({}.__getitem__).verify_nearest(
        measured.vectors, [sha_of[n] for n in measured.names], known
    )
    similarities, group_of = measured.scored.similarities, measured.scored.group_of
    pairs = CandidatePairs.of(rows, similarities[rows[:, 0], rows[:, 1]], evidence)
    held_out = out_of_fold(pairs, group_of, FOLDS, measured.seed)
    scores = scored_square(similarities, pairs, by_cosine(pairs, held_out.probabilities, held_out.counted))
    assert np.array_equal(by_probability.scored.similarities, scores)
    assert [pairs.probabilities.tolist() for pairs in grouped] == [held_out.probabilities.tolist()]
    same = group_of[pairs.left] == group_of[pairs.right]
    assert found.bins == tuple(reliability_bins(p, same) for p in (held_out.probabilities, held_out.similarity))
    assert found.decision == decide(pairs, group_of, held_out, found.decision.belongs, found.decision.source, 0.6, 0.7)


def test_a_second_run_verifies_nothing_again(results: Path) -> None:
    """Evidence is kept: the tables come out equal, and keypoints are made anew only of the pairs that are drawn."""
    verify_approaches(results, lambda _: None)
    before = (results / "zero-shot" / "verified.json").read_text(encoding="utf-8")
    keypoints = results / ".neardup" / "keypoints"
    assert len(list(keypoints.rglob("*.safetensors"))) == 21
    shutil.rmtree(keypoints)
    found = verify_approaches(results, lambda _: None)["zero-shot"]
    drawn = {photo for pair in found.telling for photo in (pair.first, pair.second)}
    assert {path.name[:64] for path in keypoints.rglob("*.safetensors")} == drawn
    assert 0 < len(drawn) < 21
    assert (results / "zero-shot" / "verified.json").read_text(encoding="utf-8") == before


def test_both_columns_leave_out_distractors(results: Path, tmp_path: Path) -> None:
    """None of them is verified, so that the figures of both are those of the test set alone."""
    out = tmp_path / "results"
    shutil.copytree(results, out)
    measured = Evaluation.load(out / "zero-shot")
    replace(measured, distractors=Distractors(("distractors/a.png",), measured.vectors[:1])).save(out / "zero-shot")
    found = verify_approaches(out, lambda _: None)["zero-shot"]
    assert found.comparison.figures["top_1"]["zero-shot"].value == measured.metrics["top_1"].value


def test_nothing_evaluated_is_one_sentence(tmp_path: Path) -> None:
    """It says what to run."""
    with pytest.raises(ArchiveError, match="holds no evaluated approach: run `neardup evaluate"):
        verify_approaches(tmp_path, lambda _: None)


def test_pairs_without_a_match_are_ranked_by_their_cosine() -> None:
    """Their probabilities stay the same numbers; those of matched pairs stay where they are."""
    cosines = np.array([0.9, 0.2, 0.5, 0.4])
    rows, matched = np.arange(4), np.array([True, False, False, False])
    pairs = CandidatePairs(rows, rows, cosines[:, None], np.ones(4, dtype=bool), matched)
    ranked = by_cosine(pairs, np.array([0.1, 0.02, 0.01, 0.03]), matched)
    assert ranked.tolist() == [0.1, 0.01, 0.03, 0.02]
    apart = replace(pairs, tellable=np.array([True, True, False, False]))
    ranked = by_cosine(apart, np.array([0.1, 0.02, 0.01, 0.03]), matched)
    assert ranked.tolist() == [0.1, 0.02, 0.03, 0.01]


def test_a_match_that_counts_as_none_is_ranked_by_its_cosine_too() -> None:
    """Of two pairs as probable as without their match, the more similar one comes first, whatever its fold."""
    rows, everything = np.arange(3), np.ones(3, dtype=bool)
    pairs = CandidatePairs(rows, rows, np.array([[0.2], [0.6], [0.4]]), everything, everything)
    ranked = by_cosine(pairs, np.array([0.9, 0.01, 0.02]), np.array([True, False, False]))
    assert ranked.tolist() == [0.9, 0.02, 0.01]


def test_pairs_that_tell_most_are_drawn_one_of_a_group() -> None:
    """True matches that look least alike, then false likenesses that do not match; a large group has one of either."""
    unmatched = Evidence("a", "b", 9, 9, 9, 9, 99, 99)
    matched = replace(unmatched, transform=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    cosines, same = np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.7, 0.6]), np.arange(7) < 3
    evidence = [replace(matched if true else unmatched, matches=row) for row, true in enumerate(same)]
    drawn = _telling(cosines, [*evidence[:6], None], same, np.array([0, 0, 1, 0, 0, 1, 2]))
    assert [pair.matches for pair in drawn] == [0, 2, 3, 5]
    every = _telling(cosines, evidence, same, np.arange(7))
    assert [pair.matches for pair in every] == [0, 1, 2, 3, 4]
    assert len(every) - 3 == TELLING[False]
