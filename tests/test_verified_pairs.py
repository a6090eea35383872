"""What people are shown of verified pairs, and what their answers bind: pairs that are made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neardup.decide.bands import Band
from neardup.decide.chosen_decision import SHIPPED
from neardup.decide.constraints import PairVerdicts
from neardup.decide.decision import Decision
from neardup.decide.features import FEATURES
from neardup.decide.logistic import Logistic
from neardup.decide.probability import PairModel
from neardup.detect.duplicate_tables import _write_pairs
from neardup.detect.duplicates import Duplicates
from neardup.detect.verified_pairs import UNLIKELY, Verification, VerifiedPairs, decide_pairs, groups_of
from neardup.encode.collection import Collection
from neardup.search.blocks import Triangle
from neardup.search.exact_copies import COPY, KINDS, NEAR
from neardup.search.pairs import NearPairs
from neardup.verify.evidence import Evidence
from neardup.verify.verifier import Verifier
from neardup.words import chance_text

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
"""The transform between two photos of one frame."""


def verified(chances: list[float], bands: list[Band | str], answered: int | None = None) -> VerifiedPairs:
    """Pairs of a first photo with others, by their probabilities; somebody answered one of them."""
    photos = tuple("edcba"[: len(chances) + 1])
    count = len(chances)
    pairs = NearPairs(np.zeros(count, dtype=np.int64), np.arange(1, count + 1), np.full(count, 0.9))
    evidence = tuple(
        Evidence(
            *(photo, photos[0], 400, 300, 400, 300, 90, 90),
            inliers=20,
            transform=(0.6, 0, 160, 0, 0.6, 120, 0, 0, 1),
            coverage_first=1.0,
            coverage_second=0.36,
            squeeze=1.0,
            correlation=1.0,
        )
        for photo in photos[1:]
    )
    answers = {} if answered is None else {(photos[answered + 1], photos[0]): "different"}
    paths = tuple(f"{photo}.png" for photo in photos)
    verifier, judged = Verifier({}.__getitem__), PairVerdicts(answers)
    return VerifiedPairs(paths, pairs, photos, evidence, np.array(chances), tuple(bands), verifier, judged=judged)


def test_what_is_too_unlikely_is_not_to_be_reviewed() -> None:
    """Unless somebody judged it, and then it is shown with the answer; what was answered is not asked again."""
    found = verified([0.99, UNLIKELY, UNLIKELY / 2, UNLIKELY / 2], ["link", "review", "review", "review"], answered=3)
    assert found.shown.tolist() == [True, True, False, True]
    counts = found.counts
    assert (counts["links"], counts["to_review"], counts["unlikely"], counts["judged"]) == (1, 1, 1, 1)
    assert found.columns()["verdict"] == [None, None, None, "different"]


def test_the_tables_begin_with_what_is_certain_and_the_workbook_has_what_is_shown(tmp_path: Path) -> None:
    """Exact copies, then the most probable pairs; of a pair that is too unlikely the Parquet table tells alone."""
    pairs = verified([0.3, UNLIKELY / 2, 0.9, np.nan], ["review", "review", "link", ""])
    collection = Collection(tmp_path, "store", "encoder", "cpu", "fp32", "encoder", 8)
    kinds, rows = np.array([NEAR, NEAR, NEAR, COPY]), np.arange(5)
    facts = pairs.paths, pairs.photos, rows, pairs.pairs, kinds, rows, pairs
    _write_pairs(Duplicates(Triangle(collection, 0.5, ()), 5, (), *facts), tmp_path)
    table = pd.read_parquet(tmp_path / "pairs.parquet")
    assert table["partner"].tolist() == ["a.png", "b.png", "d.png", "c.png"]
    assert table["kind"].tolist() == [KINDS[COPY], *[KINDS[NEAR]] * 3]
    assert pd.read_excel(tmp_path / "pairs.xlsx", engine="openpyxl")["partner"].tolist() == ["a.png", "b.png", "d.png"]


def test_the_sentence_of_a_pair_names_its_photos_in_the_order_of_its_evidence() -> None:
    """Evidence begins with the lesser SHA-256, whichever photo the pair begins with."""
    (sentence,) = verified([0.9], ["link"]).columns()["sentence"]
    assert sentence.startswith("d.png is a crop of e.png (36 %, lower right)")


def test_the_first_of_equal_photos_bears_what_people_said() -> None:
    """A verdict belongs to contents; of those of photos that are not here nothing binds."""
    judged = PairVerdicts(together=[("a", "b"), ("a", "x")], apart=[("b", "c")])
    assert judged.photos == ["a", "b", "c", "x"]
    rules = judged.constraints(["a", "b", "a", "c", "c"], [(0, 2)])
    assert (rules.together, rules.apart) == (((0, 2), (0, 1)), ((1, 3),))


@pytest.mark.parametrize("answered", [None, 1])
def test_a_person_sees_the_doubtful_pairs_in_the_middle_first(answered: int | None) -> None:
    """Of those to be reviewed, which nobody answered."""
    found = replace(
        verified([0.9, 0.45, 0.3, 0.99], ["review", "review", "review", "link"], answered),
        decision=Decision.load(SHIPPED),
    )
    assert found._doubtful() == ([1, 2, 0] if answered is None else [2, 0])


@pytest.mark.parametrize(
    ("probability", "text"), [(0.9995, "over 99.9 %"), (0.9994, "99.9 %"), (0.5, "50.0 %"), (0.0002, "under 0.1 %")]
)
def test_no_probability_is_said_to_be_certain(probability: float, text: str) -> None:
    """What would be rounded to 100 % is said to be more than the greatest tenth below it, and likewise for 0 %."""
    assert chance_text(probability) == text


def test_a_pair_that_nobody_could_verify_speaks_against_no_group() -> None:
    """A person put e and d together, d cannot be read any more, and c is a copy of e: what is unknown parts no two."""
    found = verified([float("nan"), 0.99], ["", "link"])
    pairs = NearPairs(np.array([0, 0, 1]), np.array([1, 2, 2]), np.full(3, 0.9))
    unread = replace(
        found,
        pairs=pairs,
        evidence=(None, found.evidence[1], None),
        probabilities=np.append(found.probabilities, np.nan),
        bands=(*found.bands, ""),
        judged=PairVerdicts(together=(("d", "e"),)),
    )
    assert groups_of(unread)[0].tolist() == [0, 0, 0]


def test_a_match_that_is_too_weak_for_a_link_makes_no_group() -> None:
    """A decision that makes much of similarity gives it 0.73, as it would without the match, which is no link."""
    found, zeros, ones = verified([0.9], ["link"]), (0.0,) * len(FEATURES), (1.0,) * len(FEATURES)
    strength = Logistic(tuple(FEATURES), zeros, ones, (1.0, 4.0, *zeros[2:]), -12.0)
    alone = Logistic(("cosine",), (0.0,), (1.0,), (10.0,), -8.0)
    decision = replace(Decision.load(SHIPPED), model=PairModel(strength, alone, alone))
    [match] = found.evidence
    assert match
    for points, joined in ((5, False), (20, True)):
        known = {(match.first, match.second): replace(match, inliers=points)}
        facts = found.paths, found.photos, found.pairs, known, found.verifier
        first, second = groups_of(decide_pairs(*facts, Verification(decision)))[0].tolist()
        assert (first == second) == joined


@pytest.mark.parametrize("paths", [("1.png", "2.png", "3.png"), ("3.png", "2.png", "1.png")])
def test_what_files_are_called_groups_nothing_otherwise(paths: tuple[str, ...]) -> None:
    """B is as surely A as it is C, and C is not A: B joins the photo whose SHA-256 is the lesser, by whatever name."""
    contents, chances = ("a", "b", "c"), {("a", "b"): 0.9999, ("b", "c"): 0.9999, ("a", "c"): 0.0001}
    row_of = {photo: sorted(paths).index(path) for photo, path in zip(contents, paths, strict=True)}
    ends = np.array([sorted(row_of[photo] for photo in pair) for pair in chances])
    made = tuple(
        Evidence(*pair, 100, 100, 100, 100, 99, 99, inliers=50, matches=60, transform=IDENTITY) for pair in chances
    )
    found = verified([0.9, 0.9], ["link", "link"])
    named = replace(
        found,
        paths=tuple(sorted(paths)),
        photos=tuple(sorted(contents, key=row_of.__getitem__)),
        pairs=NearPairs(ends[:, 0], ends[:, 1], np.full(3, 0.9)),
        evidence=(*made[:2], replace(made[2], transform=None)),
        probabilities=np.array(list(chances.values())),
        bands=("link", "link", "reject"),
    )
    labels, (report,) = groups_of(named)
    together = {named.photos[member.photo] for member in report.members}
    assert together == {named.photos[row] for row in np.flatnonzero(labels == labels[row_of["b"]])} == {"a", "b"}
