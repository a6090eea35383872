"""An evaluation, its intervals and the comparison of several."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import openpyxl
import oracles
import pytest

from neardup.errors import ArchiveError, ConfigError
from neardup.measure.comparison import FILES, certain, compare
from neardup.measure.evaluate import FOLDS, RESAMPLES, Distractors, Evaluation, Figure, evaluate, figure
from neardup.measure.low_precision import effect, measured_folder
from neardup.measure.metrics import NAMES
from neardup.measure.threshold import calibrated_thresholds
from neardup.stages import write_json

GROUPS = np.repeat(np.arange(14), [1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6])


def made(noise: float, approach: str = "zero-shot", seed: int = 0) -> Evaluation:
    """An encoder that knows the groups, less so the more noise."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(14, 16))
    vectors = centres[GROUPS] + noise * rng.normal(size=(len(GROUPS), 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    names = [f"{i:02d}.jpg" for i in range(len(GROUPS))]
    return evaluate(vectors, GROUPS, names, approach=approach, fingerprint="f" * 64)


def test_save_and_load_are_equal(tmp_path: Path) -> None:
    """An evaluation that was kept answers the same questions with the same figures."""
    first = replace(made(0.8), seed=3)
    first.save(tmp_path)
    second = Evaluation.load(tmp_path)
    assert (second.metrics, second.queries, second.threshold) == (first.metrics, first.queries, first.threshold)
    assert (second.approach, second.fingerprint, second.seed) == (first.approach, first.fingerprint, 3)


def test_all_metrics_are_there_with_intervals_around_them() -> None:
    """Each figure lies within its interval, and the intervals have a width."""
    figures = made(0.9).metrics
    assert tuple(figures) == NAMES
    assert all(f.low <= f.value <= f.high for f in figures.values() if None not in {f.value, f.low})
    assert figures["top_1"].high > figures["top_1"].low


def test_the_bootstrap_draws_groups() -> None:
    """A resample's top-1 is the mean over queries, each weighed by how often its group was drawn by the seed."""
    evaluation = replace(made(0.9), seed=3)
    count = int(GROUPS.max()) + 1
    drawn = np.random.default_rng(3).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    expected = oracles.resampled_mean(evaluation.scored.similarities, GROUPS, drawn[3], lambda row: float(row[0]))
    assert evaluation.samples["top_1"][3] == pytest.approx(expected)
    scored = evaluation.scored
    assert np.array_equal(scored.thresholds, calibrated_thresholds(scored.pairs, scored.group_of, FOLDS, 3))
    assert not np.array_equal(scored.thresholds, made(0.9).scored.thresholds)


def test_a_query_table_has_a_row_a_query(tmp_path: Path) -> None:
    """The worst query comes first, and the mean of a column is the metric."""
    evaluation = made(0.9)
    evaluation.save(tmp_path)
    with (tmp_path / "queries.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(oracles.queries(GROUPS))
    assert [float(r["ndcg"]) for r in rows] == sorted(float(r["ndcg"]) for r in rows)
    similarities, groups = evaluation.scored.similarities, GROUPS
    for row in rows:
        query = evaluation.names.index(row["photo"])
        relevant, nearest = (
            oracles.relevance(similarities, groups, query),
            oracles.ranking(similarities, groups, query)[0],
        )
        assert (int(row["group"]), int(row["relevant"])) == (groups[query], sum(relevant))
        assert (int(row["first_relevant_rank"]), row["nearest"]) == (
            relevant.index(True) + 1,
            evaluation.names[nearest],
        )
        assert (int(row["top_1"]), int(row["top_5"]), int(row["right"])) == (
            relevant[0],
            any(relevant[:5]),
            relevant[0],
        )
        assert float(row["similarity"]) == similarities[query, nearest]
    assert np.mean([int(r["top_1"]) for r in rows]) == pytest.approx(evaluation.values["top_1"])


def test_hits_leave_out_the_query() -> None:
    """A photo is not among its own answers; of equally similar photos one of another group comes first."""
    assert "30.jpg" not in [name for name, _, _ in made(0.5).hits("30.jpg", 40)]
    level = Evaluation("level", "f", ("a", "b", "c"), np.array([0, 0, 1]), np.ones((3, 1), np.float32))
    assert level.hits("a") == [("c", 1.0, False), ("b", 1.0, True)]


def test_the_best_and_the_worst_are_of_different_groups() -> None:
    """Six pictures of one group would show one thing six times; of equally good searches those of large groups come."""
    evaluation = made(0.9)
    group = dict(zip(evaluation.names, GROUPS.tolist(), strict=True))
    for photos in (evaluation.best(5), evaluation.worst(5)):
        assert len({group[name] for name in photos}) == 5
    sizes = np.bincount(GROUPS).tolist()
    assert [sizes[GROUPS[int(name[:2])]] for name in made(0.0).best(9)] == [6, 5, 4, 3, 3, 3, 2, 2, 2]


@pytest.mark.parametrize("order", range(3))
def test_equal_vectors_tie_wherever_they_stand(order: int) -> None:
    """Three files have one vector, two of them are a group: the third ranks first in any order, a distractor's too."""
    distinct = np.random.default_rng(1).normal(size=(111, 257))
    unit = (distinct / np.linalg.norm(distinct, axis=1, keepdims=True)).astype(np.float32)
    vectors, groups = np.repeat(unit, 3, axis=0), np.arange(333) - np.tile([0, 1, 0], 111)
    shuffled = np.random.default_rng(order).permutation(333)
    names = [f"{i}.jpg" for i in shuffled]
    evaluation = evaluate(vectors[shuffled], groups[shuffled], names, approach="x", fingerprint="f")
    assert evaluation.values["top_1"] == 0
    pairs = shuffled[np.isin(shuffled % 3, (0, 1))]
    further = Distractors(tuple(f"{i}.png" for i in range(111)), unit)
    evaluation = evaluate(
        vectors[pairs], groups[pairs], [f"{i}.jpg" for i in pairs], approach="x", fingerprint="f", distractors=further
    )
    assert evaluation.values["top_1"] == 0


def test_one_photo_is_not_enough() -> None:
    """The error says where to look for the reason."""
    with pytest.raises(ArchiveError, match="at least 2 are needed: see discrepancies"):
        evaluate(np.ones((1, 2), np.float32), np.zeros(1, np.int64), ["a"], approach="x", fingerprint="")


def test_a_similarity_matrix_is_written_while_small(tmp_path: Path) -> None:
    """The matrix is float32 and square, in the order of the names."""
    evaluation = made(0.5)
    evaluation.save(tmp_path)
    matrix = np.load(tmp_path / "similarity.npy")
    assert (matrix.dtype, matrix.shape) == (np.float32, (35, 35))
    assert matrix == pytest.approx(evaluation.scored.similarities, abs=1e-6)


def test_an_undefined_metric_has_no_figure() -> None:
    """NaN never reaches a table."""
    assert figure(float("nan"), np.full(4, np.nan)) == Figure(None, None, None)


def test_an_interval_is_that_of_the_defined_resamples() -> None:
    """From the 2.5 to the 97.5 percentile; a value that no resample defines has none."""
    samples = np.append(np.arange(201) / 200, np.full(9, np.nan))
    assert figure(0.4, samples) == Figure(0.4, pytest.approx(0.025), pytest.approx(0.975))
    assert figure(0.4, np.full(3, np.nan)) == Figure(0.4, None, None)


def test_an_approach_against_itself_gains_nothing() -> None:
    """The paired interval of equal approaches is exactly zero: their resamples are the same."""
    comparison = compare([made(0.8), made(0.8, "fine-tuned")])
    assert {f for row in comparison.differences.values() for f in row.values()} <= {
        Figure(0.0, 0.0, 0.0),
        Figure(None, None, None),
    }


def test_a_clear_gain_is_certain() -> None:
    """A much better encoder's paired interval lies above zero, and the table marks it."""
    comparison = compare([made(2.5), made(0.3, "fine-tuned")])
    assert certain(comparison.differences["ndcg"]["fine-tuned"])
    assert "*" in next(line for line in comparison.markdown().splitlines() if line.startswith("| nDCG"))


def test_other_test_sets_are_not_compared() -> None:
    """Approaches of different photos are refused, for their difference would mean nothing."""
    other = made(0.5, "fine-tuned")
    shorter = Evaluation("fine-tuned", "", other.names[:-1], GROUPS[:-1], other.vectors[:-1])
    regrouped = replace(other, groups=np.append(GROUPS[:-1], 0))
    for one in (shorter, regrouped):
        with pytest.raises(ArchiveError, match="different test sets"):
            compare([made(0.5), one])


def test_other_distractors_are_not_compared() -> None:
    """Approaches whose queries were searched among different photos are refused."""
    one = made(0.5)
    distractors = Distractors(("distractors/a.jpg",), np.ones((1, 16), np.float32))
    with pytest.raises(ArchiveError, match="with different distractors: evaluate both anew"):
        compare([one, replace(made(0.5, "fine-tuned"), distractors=distractors)])


def test_an_evaluation_with_distractors_is_kept_whole(tmp_path: Path) -> None:
    """After a load the distractors are among the hits again, and the figures are equal."""
    vectors = np.random.default_rng(3).normal(size=(4, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = tuple(f"distractors/{i}.jpg" for i in range(4))
    first = replace(made(0.8), distractors=Distractors(names, vectors))
    first.save(tmp_path)
    second = Evaluation.load(tmp_path)
    assert second.distractors.names == names
    assert (second.values, second.metrics, second.queries) == (first.values, first.metrics, first.queries)
    assert second.hits("30.jpg", 40) == first.hits("30.jpg", 40)
    found = {name: similarity for name, similarity, _ in second.hits("30.jpg", 40)}
    assert [found[name] for name in names] == pytest.approx(vectors @ second.vectors[30], abs=1e-6)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_spread_over_seeds_stands_beside_the_interval(tmp_path: Path) -> None:
    """Of the approach that was repeated the least and the greatest figure; of the others nothing."""
    several = [made(noise, "fine-tuned", seed) for seed, noise in ((0, 0.9), (1, 0.9), (2, 0.9))]
    comparison = compare([made(0.9), several[0]], {"fine-tuned": several[1:], "zero-shot": []})
    values = [one.metrics["ndcg"].value for one in several]
    assert comparison.spreads["ndcg"] == {"fine-tuned": (min(values), max(values))}
    comparison.write(tmp_path)
    facts = json.loads((tmp_path / "comparison_facts.json").read_text())
    assert (facts["seeds"], facts["spreads"]["ndcg"]["fine-tuned"]["low"]) == (3, min(values))
    table = (tmp_path / "comparison.md").read_text()
    line = next(line for line in table.splitlines() if line.startswith("| nDCG"))
    assert line.count("[") == 1
    assert f"[{100 * min(values):.1f} to {100 * max(values):.1f}]" in line
    assert "In square brackets the least and the greatest of 3 seeds." in table


def test_another_seed_of_other_photos_is_refused() -> None:
    """Its spread would be one of test sets."""
    other = made(0.5, "fine-tuned")
    shorter = Evaluation("fine-tuned", "", other.names[:-1], GROUPS[:-1], other.vectors[:-1])
    with pytest.raises(ArchiveError, match="different test sets"):
        compare([made(0.5), other], {"fine-tuned": [shorter]})


def test_comparison_json_is_metric_approach_figure(tmp_path: Path) -> None:
    """Its top level holds the metrics and nothing else; gains, thresholds and counts are in the file beside it."""
    comparison = compare([made(0.9), made(0.5, "fine-tuned")])
    paths = comparison.write(tmp_path)
    figures = json.loads((tmp_path / "comparison.json").read_text())
    facts = json.loads((tmp_path / "comparison_facts.json").read_text())
    assert tuple(figures) == NAMES
    assert all(list(row) == ["zero-shot", "fine-tuned"] for row in figures.values())
    assert figures["ndcg"]["fine-tuned"] == asdict(comparison.figures["ndcg"]["fine-tuned"])
    assert facts["differences"]["ndcg"]["fine-tuned"] == asdict(comparison.differences["ndcg"]["fine-tuned"])
    assert (facts["photos"], facts["groups"], facts["distractors"]) == (35, 14, 0)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_the_effect_of_a_lower_precision_is_one_sentence(tmp_path: Path) -> None:
    """It names each metric at both precisions with the paired interval of the gain, as the files have them."""
    comparison = compare([made(0.9), made(0.9, "zero-shot, int8", seed=1)])
    comparison.write(tmp_path / "int8")
    full, lower = comparison.figures["ndcg"].values()
    (gain,) = comparison.differences["ndcg"].values()
    figures = f"{100 * full.value:.2f} → {100 * lower.value:.2f} ({100 * gain.low:.2f} to {100 * gain.high:.2f})"
    assert effect(tmp_path / "int8").startswith(f"measured effect of int8: nDCG {figures}, top-1 ")


def test_the_effect_on_a_figure_that_is_not_defined_says_so(tmp_path: Path) -> None:
    """A test set without a pair has no recall, at no precision."""
    alone = [f"{i}.jpg" for i in range(5)]
    evaluations = [Evaluation(name, "", alone, np.arange(5), np.eye(5, dtype=np.float32)) for name in ("a", "b")]
    compare(evaluations).write(tmp_path / "int8")
    assert effect(tmp_path / "int8").startswith("measured effect of int8: nDCG is not defined on this test set, top-1 ")


def test_a_lower_precision_that_was_measured_for_another_encoder_is_none(tmp_path: Path) -> None:
    """Its folder is found by the fingerprint; without it the sentence says what to run."""
    for name in ("adapted", "zero-shot"):
        write_json(tmp_path / name / "int8" / "metrics.json", {"fingerprint": name})
    assert measured_folder(tmp_path, "int8", "zero-shot") == tmp_path / "zero-shot" / "int8"
    with pytest.raises(ConfigError, match=r"was not measured in .*: run `neardup evaluate"):
        measured_folder(tmp_path, "int8", "another")


def test_the_four_tables_say_the_same(tmp_path: Path) -> None:
    """xlsx, CSV, Markdown and JSON hold one set of figures, the prior project's six first."""
    comparison = compare([made(0.9), made(0.5, "fine-tuned")])
    comparison.write(tmp_path)
    facts = json.loads((tmp_path / "comparison.json").read_text())
    sheet = list(openpyxl.load_workbook(tmp_path / "comparison.xlsx").active.iter_rows(values_only=True))
    with (tmp_path / "comparison.csv").open(newline="") as stream:
        table = list(csv.reader(stream))
    value = facts["f1"]["fine-tuned"]["value"]
    column = table[0].index("fine-tuned")
    assert [row[0] for row in table[1:7]] == ["precision", "recall", "F1", "top-1", "top-5", "nDCG"]
    assert sheet[3][column] == pytest.approx(100 * value, abs=1e-4)
    assert float(table[3][column]) == pytest.approx(100 * value, abs=1e-4)
    assert f"{100 * value:.2f}" in (tmp_path / "comparison.md").read_text().splitlines()[4]
