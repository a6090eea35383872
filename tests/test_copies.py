"""Learning from copies of photos: what a step compares, what stays alike, and that a killed training goes on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_train import Stop, make_examples, silent, small_clip, stop_after, weights

from neardup.archive.known_pairs import KNOWN_PAIRS, KnownPair
from neardup.encode.trainable import load_trainable
from neardup.errors import ArchiveError, TrainingError
from neardup.review.record.links import Links, save_known_pairs
from neardup.review.record.verdicts import DIFFERENT, SAME, SAME_SCENE, Verdict
from neardup.settings.schema import AdaptRecipe, Recipe, prior_project
from neardup.stages import digest_contents
from neardup.tables import save_rows
from neardup.train import finetune
from neardup.train.batches import PLAIN, Example, KnownPairs, batch_rows
from neardup.train.copy_learner import LIKENESS_TEMPERATURE, CopyLearner, copy_strengths
from neardup.train.data import TrainingData
from neardup.train.epochs import UNTRAINED, EpochResult, best_of, stop_reason
from neardup.train.finetune import train
from neardup.train.interpolate import SHARES, best_share, interpolate, shares_of, weights_of
from neardup.train.losses import copy_loss, koleo_loss, likeness_loss
from neardup.train.split import split
from neardup.train.validation import NearDuplicates, SearchScore, search_score

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = replace(AdaptRecipe(), lr=1e-3, batch_size=8, epochs=2, validation=0.25, validation_copies=1)
"""Two epochs of learning from copies, by steps that move the weights of a model of 32 pixels."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Sixteen photos of noise without captions."""
    made = make_examples(tmp_path_factory.mktemp("photos"), 16)
    return [replace(example, caption="") for example in made]


def learner_of(examples: list[Example], known: KnownPairs | None = None, **changes: Any) -> CopyLearner:
    """A model of 32 pixels, without a tokenizer, that learns from copies."""
    clip = replace(small_clip(), tokenizer=None)
    return CopyLearner(examples, clip, replace(RECIPE, **changes), "cpu", known or KnownPairs(), bits=6)


def backward(learner: CopyLearner, batch: Sequence[int], epoch: int = 1) -> float:
    """The loss of a batch, its gradient left on the weights."""
    learner.begin(range(16))
    ((rows, inputs),) = learner.inputs([batch], epoch)
    return learner.backward(rows, inputs)


def unit_rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Rows of length 1, float32 (n, d), drawn."""
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_only_the_vision_tower_learns(examples: list[Example]) -> None:
    """It needs no tokenizer; the text tower and the temperature get no gradient and are not given to the optimizer."""
    learner = learner_of(examples)
    backward(learner, range(8))
    learning = {name for name, weight in learner.model.named_parameters() if weight.grad is not None}
    assert {name.partition(".")[0] for name in learning} == {"vision_model", "visual_projection"}
    assert sum(len(group["params"]) for group in learner.optimizer().param_groups) == len(
        [name for name, weight in learner.model.named_parameters() if weight.requires_grad]
    )


def test_trainings_by_captions_and_by_copies_are_measured_on_the_same_photos(examples: list[Example]) -> None:
    """Photos that share a legend lie on one side though copies alone are learned from: trials can be compared."""
    named = [replace(example, caption=f"regiment {row // 2}") for row, example in enumerate(examples)]
    recipes = [Recipe(objective=objective, validation=0.3) for objective in ("captions", "copies", "both")]
    data = [TrainingData.of(named, small_clip(), recipe, 6, KnownPairs()) for recipe in recipes]
    assert len({trial.parts for trial in data}) == 1
    assert [trial.captions is None for trial in data] == [False, True, False]


def test_captions_of_a_model_without_a_text_tower_are_refused(examples: list[Example], tmp_path: Path) -> None:
    """The sentence says what to set."""
    with pytest.raises(TrainingError, match=r"it has no text tower: say objective = 'copies' in \[train\] of"):
        train(examples, replace(small_clip(), tokenizer=None), Recipe(), tmp_path, report=silent)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}, {"epoch_steps": 1, "frozen_layers": 1}], ids=str)
def test_killed_training_goes_on(
    examples: list[Example], tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the weights, the losses and the shares of one that was not killed, to the last bit.

    The rate goes by the share of all steps of all epochs; what is validated on is embedded before training too.
    """
    recipe = replace(RECIPE, **changes)
    validation = TrainingData.of(examples, small_clip(2), recipe, 6, KnownPairs()).parts.validation
    begin, descend, done, kept = CopyLearner.begin, CopyLearner.descend, list[float](), set[int]()
    monkeypatch.setattr(CopyLearner, "begin", lambda *args: (kept.update(args[1]), begin(*args))[1])
    monkeypatch.setattr(CopyLearner, "descend", lambda *args: (done.append(args[2]), descend(*args))[1])
    whole = train(examples, small_clip(2), recipe, tmp_path / "whole", report=silent)
    assert done == pytest.approx([step / len(done) for step in range(len(done))])
    assert (len(done) > 1, kept >= set(validation)) == (True, True)
    with pytest.raises(Stop):
        train(examples, small_clip(2), recipe, tmp_path / "cut", stop_after(1), report=silent)
    cut = train(examples, small_clip(2), recipe, tmp_path / "cut", report=silent)
    assert weights(cut.checkpoint) == weights(whole.checkpoint)
    assert [replace(line, seconds=0) for line in cut.history] == [replace(line, seconds=0) for line in whole.history]
    assert cut.shares == whole.shares


def test_both_learns_from_captions_and_copies(tmp_path: Path) -> None:
    """A killed training goes on to the same weights, and the weight of the captions counts."""
    examples = make_examples(tmp_path / "photos", 12)
    recipe = Recipe(objective="both", lr=1e-3, batch_size=8, epochs=2, validation=0.3, validation_copies=1)
    whole = train(examples, small_clip(), recipe, tmp_path / "whole", report=silent)
    with pytest.raises(Stop):
        train(examples, small_clip(), recipe, tmp_path / "cut", stop_after(1), report=silent)
    assert weights(train(examples, small_clip(), recipe, tmp_path / "cut", report=silent).checkpoint) == weights(
        whole.checkpoint
    )
    losses = []
    for weight in (0.0, 1.0, 2.0):
        one = replace(recipe, captions_weight=weight)
        data = TrainingData.of(examples, small_clip(), one, 6, KnownPairs())
        learner = data.learner(small_clip(), "cpu")
        learner.begin(range(12))
        ((batch, inputs),) = learner.inputs([range(8)], 1)
        losses.append(learner.backward(batch, inputs))
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)
    assert losses[1] > losses[0] + 0.1


def test_parts_have_the_gradient_of_the_whole(examples: list[Example]) -> None:
    """Cut into parts, a batch of copies has the loss and the gradient of the whole."""
    results = []
    for accumulate in (1, 3):
        learner = learner_of(examples, accumulate=accumulate)
        loss = backward(learner, range(8))
        results.append((loss, [p.grad for p in learner.model.parameters() if p.grad is not None]))
    (loss, gradient), (loss_in_parts, gradient_in_parts) = results
    assert loss_in_parts == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(gradient_in_parts, gradient, rtol=1e-3, atol=1e-5)


def test_copies_are_those_of_seed_epoch_and_batch(examples: list[Example]) -> None:
    """Equal draws give equal copies, grey in three channels, normalised as the encoder is used to; others else."""
    learner = learner_of(examples)
    (pictures,) = learner.copies.load([range(4)])
    first, again, other = (learner.copies.make_copies(range(4), pictures, epoch) for epoch in (1, 1, 2))
    assert first.shape == (8, 3, 32, 32)
    assert torch.equal(first, again)
    learner.recipe = replace(learner.recipe, seed=5)
    reseeded = learner.copies.make_copies(range(4), pictures, 1)
    assert [torch.equal(first, others) for others in (other, reseeded)] == [False, False]
    processor = learner.processor
    mean, spread = (torch.tensor(v)[None, :, None, None] for v in (processor.image_mean, processor.image_std))
    grey = first * spread + mean
    torch.testing.assert_close(grey[:, :1].expand(-1, 3, -1, -1), grey, atol=1e-5, rtol=0)
    assert (grey.min() >= -1e-5, grey.max() <= 1 + 1e-5) == (True, True)


def row_loss(vectors: torch.Tensor, subjects: torch.Tensor, ignored: torch.Tensor, row: int) -> float:
    """The copy loss of one row by an independent formula: minus the mean logarithm of its positives' shares."""
    others = [i for i in range(len(vectors)) if i != row and not ignored[row, i]]
    terms = {i: float(torch.exp(vectors[row] @ vectors[i] / 0.1)) for i in others}
    return float(-np.mean([np.log(terms[i] / sum(terms.values())) for i in others if subjects[i] == subjects[row]]))


def test_suspected_duplicates_do_not_repel() -> None:
    """Pairs that are ignored are no negatives, and no positives either."""
    vectors, subjects = unit_rows(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    doubtful = (subjects[:, None] + subjects[None, :]) == 1
    expected = float(np.mean([row_loss(vectors, subjects, doubtful, row) for row in range(6)]))
    assert copy_loss(vectors, subjects, 0.1, doubtful).item() == pytest.approx(expected, rel=1e-5)


def test_photos_of_equal_looks_are_suspected(examples: list[Example]) -> None:
    """Two photos of one perceptual hash count for each other as no negative, unless they are known to differ."""
    twins = [replace(examples[0], phash=examples[1].phash), *examples[1:]]
    known = KnownPairs(different=((twins[0].photo, twins[1].photo),))
    vectors = unit_rows(8, 16)
    losses = [
        learner_of(photos, pairs, likeness=0.0).copies.loss(range(4), vectors).item()
        for photos, pairs in ((examples, None), (twins, None), (twins, known))
    ]
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]


def test_a_photo_and_its_mirror_image_are_one_picture(examples: list[Example]) -> None:
    """They lie on one side of the split, are right answers for each other, and none counts as a negative."""
    image = examples[1].phash
    twins = [replace(examples[0], phash_mirrored=image), *examples[1:]]
    parts = [split(KnownPairs().pictures(twins, 6), 0.2, seed).validation for seed in range(9)]
    assert {(0 in validation) == (1 in validation) for validation in parts} == {True}
    groups = NearDuplicates(twins, range(len(twins)), AdaptRecipe(), KnownPairs(), 6).groups
    assert (groups[0] == groups[1], len(set(groups.tolist()))) == (True, len(twins) - 1)
    losses = [learner_of(photos, likeness=0.0).copies.loss(range(4), unit_rows(8, 16)) for photos in (examples, twins)]
    assert losses[1].item() < losses[0].item()


def test_vectors_spread_as_in_the_training_of_the_shipped_encoder(examples: list[Example]) -> None:
    """Beside the loss of the copies, twice that of the distances to the nearest photo of another look."""
    twins = [replace(examples[0], phash=examples[1].phash), *examples[1:]]
    vectors, looks = unit_rows(8, 16), torch.tensor([0, 0, 1, 2] * 2)
    vectors[1] = vectors[0]
    photos = torch.tensor([0, 1, 2, 3] * 2)
    doubtful = (looks[:, None] == looks[None, :]) & (photos[:, None] != photos[None, :])
    expected = copy_loss(vectors, photos, 0.05, doubtful) + 2 * koleo_loss(vectors, looks)
    found = learner_of(twins, likeness=0.0).copies.loss(range(4), vectors)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_half_of_the_copies_are_mild() -> None:
    """Their strength is the square of a draw, at most .4; that of the others lies between .2 and 1."""
    draws = torch.tensor([0.0, 0.5, 1.0, 0.0, 0.5, 1.0])
    assert copy_strengths(draws).tolist() == pytest.approx([0.0, 0.1, 0.4, 0.2, 0.6, 1.0])


def test_a_long_gradient_is_shortened(examples: list[Example]) -> None:
    """That of all weights together is 1 long then; a shorter one stays as it is."""
    learner = learner_of(examples)
    optimizer = learner.optimizer()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for length in (50.0, 0.5):
        for weight in weights:
            weight.grad = torch.full_like(weight, length / sum(map(torch.numel, weights)) ** 0.5)
        learner.descend(optimizer, 0.5)
        found = torch.cat([weight.grad.ravel() for weight in weights if weight.grad is not None]).norm()
        assert found.item() == pytest.approx(min(length, 1.0), rel=1e-3)


def test_photos_that_are_known_to_be_one_picture_attract(examples: list[Example]) -> None:
    """The copies of both are positives of each other: vectors that agree have a lower loss by it."""
    same = KnownPairs(same=((examples[0].photo, examples[1].photo),))
    vectors = unit_rows(4, 16)[[0, 0, 2, 3, 0, 0, 2, 3]]
    known, unknown = (
        learner_of(examples, pairs, likeness=0.0).copies.loss(range(4), vectors).item() for pairs in (same, None)
    )
    assert known < unknown


def test_known_pairs_come_into_one_batch() -> None:
    """Each row is followed by its partners; every row comes once all the same."""
    partners = {0: [7], 7: [0], 3: [9, 5], 9: [3], 5: [3]}
    (order,) = batch_rows(range(12), 12, 0, 1, partners)
    assert sorted(order) == list(range(12))
    assert abs(order.index(0) - order.index(7)) == 1
    assert max(order.index(i) for i in (3, 5, 9)) - min(order.index(i) for i in (3, 5, 9)) <= 3


def test_known_pairs_are_on_one_side_of_the_split(examples: list[Example]) -> None:
    """A photo to validate on has no known near-duplicate among those to train with."""
    pairs = tuple((examples[i].photo, examples[i + 8].photo) for i in range(8))
    data = TrainingData.of(examples, small_clip(), RECIPE, 6, KnownPairs(same=pairs))
    assert {row % 8 for row in data.parts.training} & {row % 8 for row in data.parts.validation} == set()


def test_pairs_of_the_test_set_are_left_aside() -> None:
    """Those of one of its photos, too: a verdict may say what the ground truth says."""
    known = KnownPairs((("a", "b"), ("a", "t"), ("t", "u")), (("b", "c"), ("u", "c")))
    assert known.without({"t", "u"}) == KnownPairs((("a", "b"),), (("b", "c"),))


def test_known_pairs_are_read_from_a_table(tmp_path: Path) -> None:
    """Columns first, second and same; where there is no table, nothing is known."""
    save_rows(tmp_path / "pairs.csv", KnownPair, [KnownPair("a", "b", 1), KnownPair("a", "c", 0)])
    assert KnownPairs.load(tmp_path / "pairs.csv") == KnownPairs((("a", "b"),), (("a", "c"),))
    assert KnownPairs.load(tmp_path / "none.csv") == KnownPairs()
    (tmp_path / "bad.csv").write_text("first;second;same\na;b;1\n")
    with pytest.raises(ArchiveError, match="give it the columns first, second and same"):
        KnownPairs.load(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("a,b,1\na,b,0\n", "line 3: a and b are different there, but one photo or the same by other lines"),
        ("a,c,0\na,b,1\nc,b,1\n", "line 2: a and c are different there"),
        ("a,b,1\na,a,0\n", "line 3: a and a are different there"),
        ("a,b,1\na,c,2\n", "line 3: same is 2, expected 1 or 0"),
    ],
)
def test_known_pairs_that_contradict_each_other_are_refused(lines: str, sentence: str, tmp_path: Path) -> None:
    """Which of them is true only a person can say; training would go by the ones that say the same."""
    (tmp_path / "pairs.csv").write_text(f"first,second,same\n{lines}")
    with pytest.raises(ArchiveError, match=sentence):
        KnownPairs.load(tmp_path / "pairs.csv")


def test_verdicts_are_what_a_learner_knows(examples: list[Example], tmp_path: Path) -> None:
    """Same attracts and different is a negative, and both come into its batch; of two exposures nothing is known."""
    row_of = {photo: row for row, photo in enumerate(sorted(example.photo for example in examples))}
    named = [replace(example, photo=f"{row_of[example.photo]:064x}") for example in examples]
    answers = {(0, 1): SAME, (0, 2): DIFFERENT, (0, 3): SAME_SCENE}
    given = [
        Verdict.of(f"{left:064x}", f"{right:064x}", answer, who="Ada", queue="review")
        for (left, right), answer in answers.items()
    ]
    save_known_pairs(tmp_path / KNOWN_PAIRS, given, Links.of(given))
    learner = learner_of(named, KnownPairs.load(tmp_path / KNOWN_PAIRS), likeness=0.0)
    rows = {photo: row for row, photo in enumerate(example.photo for example in named)}
    first, same, different = (rows[f"{number:064x}"] for number in range(3))
    assert dict(learner.partners) == {first: [same, different], same: [first], different: [first]}
    vectors = unit_rows(4, 16)[[0, 0, 2, 3, 0, 0, 2, 3]]
    batch = [first, same, *[row for row in range(16) if row not in {first, same}][:2]]
    unknown = learner_of(named, likeness=0.0)
    assert learner.copies.loss(batch, vectors).item() < unknown.copies.loss(batch, vectors).item()


def test_likeness_is_least_where_nothing_has_moved() -> None:
    """Its gradient is zero there; three rows that are all equally alike give ln 2."""
    start = unit_rows(5, 8)
    moved = start.clone().requires_grad_()
    likeness_loss(moved, start, 0.1).backward()
    assert moved.grad is not None
    radial = (moved.grad * start).sum(dim=1, keepdim=True) * start
    torch.testing.assert_close(moved.grad - radial, torch.zeros_like(start), atol=1e-5, rtol=0)
    assert likeness_loss(start.roll(1, 1).roll(1, 0), start, 0.1) > likeness_loss(start, start, 0.1)
    assert likeness_loss(torch.eye(3), torch.eye(3), 0.1).item() == pytest.approx(np.log(2))


def test_likenesses_are_those_that_the_model_had(examples: list[Example]) -> None:
    """Where no weight has moved, they cost no more than the entropy of what is alike, the mean of all taken off."""
    learner, plain = learner_of(examples, likeness=1.0), learner_of(examples, likeness=0.0)
    learner.begin(range(16))
    before = learner.vectors(learner.photos.batches([range(16)], PLAIN))
    alike = torch.nn.functional.normalize(before - before.mean(dim=0), dim=1)
    copies = before[[0, 1, 2, 3] * 2]
    added = learner.copies.loss(range(4), copies) - plain.copies.loss(range(4), copies)
    assert added.item() == pytest.approx(likeness_loss(alike[:4], alike[:4], LIKENESS_TEMPERATURE).item(), rel=1e-4)


def test_rate_rises_falls_and_goes_by_size(examples: list[Example]) -> None:
    """It begins low, is greatest after a tenth of the steps, and ends at 0; a large tower has a lower one."""
    learner = learner_of(examples, weight_decay=0.1)
    optimizer = learner.optimizer()
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    rates = []
    for done in (0.0, 0.1, 0.5, 0.99):
        learner.descend(optimizer, done)
        rates.append(optimizer.param_groups[0]["lr"] / 1e-3)
    assert rates == pytest.approx([0.0909, 1, 0.5868, 0.0003], abs=1e-4)
    assert learner.rate == 1e-3
    learner.size = 88_000_000
    assert learner.rate == pytest.approx(1e-3 * 3 / 88)


def test_copies_find_their_photos() -> None:
    """A perfect search has nDCG and µAP 1; a copy whose photo ranks second .63; a tied wrong photo ranks first."""
    photos = np.eye(3)
    assert search_score(photos, photos, np.arange(3)) == SearchScore(1.0, 1.0)
    assert search_score(np.tile(photos, (2, 1)), photos, np.arange(3)) == SearchScore(1.0, 1.0)
    swapped = np.array([[0.8, 0.6, 0], [0.8, 0.6, 0], [0, 0, 1]])
    assert search_score(swapped, photos, np.arange(3)).ndcg == pytest.approx((1 + 1 / np.log2(3) + 1) / 3)
    tied = np.array([[0.6, 0.6, 0.5]])
    found = search_score(tied, photos, np.arange(3))
    assert (found.ndcg, found.micro_ap) == pytest.approx((1 / np.log2(3), 1 / 2))


def test_photos_of_a_group_are_searched_too() -> None:
    """Each is a query among all but itself, with the others of its group relevant."""
    photos = np.array([[1, 0, 0], [0.8, 0.6, 0], [0.9, 0, np.sqrt(0.19)]])
    measured = search_score(np.empty((0, 3)), photos, np.array([0, 0, 1]))
    assert measured.ndcg == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_validation_copies_are_the_same_each_time(examples: list[Example]) -> None:
    """A training that goes on is measured as one that was not killed; another number or seed makes other copies."""
    learner = learner_of(examples)
    first, again = (NearDuplicates(examples, range(8), RECIPE, KnownPairs(), 6).measure(learner) for _ in range(2))
    assert first == again
    two = replace(RECIPE, validation_copies=2)
    one, other = (NearDuplicates(examples, range(8), replace(two, seed=seed), KnownPairs(), 6) for seed in (0, 1))
    copies = [*one.read(learner)[8:].split(8), other.read(learner)[8:16]]
    assert [torch.equal(*pair) for pair in combinations(copies, 2)] == [False] * 3


def test_of_many_validation_photos_some_are_searched(examples: list[Example]) -> None:
    """At most 400 of them, each once, in their order: every epoch embeds them and their copies."""
    many = [replace(example, photo=f"{number:064x}") for number, example in enumerate(examples * 30)]
    rows = NearDuplicates(many, range(480), RECIPE, KnownPairs(), -1).rows
    assert (len(rows), sorted(set(rows))) == (400, list(rows))


def test_known_pairs_are_one_picture_to_the_validation(examples: list[Example]) -> None:
    """Each is searched for the other, too."""
    known = KnownPairs(same=((examples[0].photo, examples[3].photo),))
    groups = NearDuplicates(examples, range(8), RECIPE, known, 6).groups.tolist()
    assert [groups.index(group) for group in groups] == [0, 1, 2, 0, 4, 5, 6, 7]


RESULT = EpochResult(1, 1.0, 1.0, 60.0, None, 0.5, 0.5)


def test_kept_epoch_goes_by_what_the_recipe_says() -> None:
    """By nDCG, then µAP, the first of equals; or by the loss, as the prior project did."""
    history = [
        replace(RESULT, validation_loss=0.1),
        replace(RESULT, epoch=2, validation_micro_ap=0.6),
        replace(RESULT, epoch=3, validation_micro_ap=0.6),
    ]
    assert (best_of(history, RECIPE).epoch, best_of(history, prior_project()).epoch) == (2, 1)
    assert stop_reason(history, Recipe(patience=1)) == "no better validation nDCG for 1 epochs"


def test_training_ends_within_its_minutes() -> None:
    """No epoch begins that would not end in time, judged by those before; the first one always begins."""
    history = [RESULT, replace(RESULT, epoch=2)]
    assert stop_reason([], Recipe(minutes=0.5)) == ""
    assert stop_reason(history, Recipe(minutes=3)) == ""
    assert stop_reason(history, Recipe(minutes=2.9)) == "another epoch would not end within 2.9 minutes"


SEARCHES = st.lists(st.floats(0, 1, width=16), min_size=6, max_size=6)
"""The nDCG of six pictures."""


def measured(pictures: list[float], micro_ap: float) -> SearchScore:
    """What a search gives of some pictures, one search each."""
    return SearchScore(float(np.mean(pictures)), micro_ap, tuple(pictures))


@given(st.lists(st.tuples(SEARCHES, st.floats(0, 1)), min_size=5, max_size=5))
def test_kept_share_is_never_worse_than_the_start(found: list[tuple[list[float], float]]) -> None:
    """Another one than the start is kept only for a gain above its standard error and no less µAP."""
    of = dict(zip(SHARES, (measured(*line) for line in found), strict=True))
    kept = best_share(shares_of(of[0.0], of[1.0], of.__getitem__))
    gain = of[kept.share].ndcg - of[0.0].ndcg
    assert gain >= 0
    assert kept.share == 0 or gain >= of[kept.share].gain_error(of[0.0])
    assert of[kept.share].micro_ap >= of[0.0].micro_ap


def test_the_error_of_a_gain_is_that_of_its_mean() -> None:
    """Computed by hand: gains of .1 and .3 deviate by √.02, their mean by √.01; one picture bears no gain."""
    start, found = measured([0.5, 0.5], 0), measured([0.6, 0.8], 0)
    assert found.gain_error(start) == pytest.approx(0.1)
    assert measured([0.6], 0).gain_error(measured([0.5], 0)) == np.inf


def test_the_error_of_a_gain_in_micro_ap_is_its_spread_over_draws_of_pictures() -> None:
    """Leaving out parts of one draw tells as much as drawing pictures again; one picture alone bears no gain."""
    draws = np.random.default_rng(0)

    def gain(count: int) -> tuple[float, float]:
        photos = draws.standard_normal((count, 8))
        rows = [photos, *(photos + draws.normal(0, noise, photos.shape) for noise in (1.0, 0.8))]
        photos, *both = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in rows)
        start, end = (search_score(copies, photos, np.arange(count)) for copies in both)
        return end.micro_ap - start.micro_ap, end.micro_ap_gain_error(start)

    gains, errors = zip(*(gain(100) for _ in range(60)), strict=True)
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.3)
    assert gain(1)[1] == np.inf


def test_a_gain_by_chance_is_not_kept_and_a_true_one_is() -> None:
    """One picture of forty that is found better by luck is no gain; all of them a little are."""
    start = measured([0.9] * 40, 0.8)
    lucky, better, traded = (
        measured([1.0] + [0.9] * 39, 0.9),
        measured([0.92, 0.93] * 20, 0.8),
        measured([0.95, 0.96] * 20, 0.7),
    )
    assert lucky.ndcg > start.ndcg

    def kept(middle: SearchScore) -> float:
        found = dict(zip(SHARES, (start, middle, middle, middle, start), strict=True))
        return best_share(shares_of(start, start, found.__getitem__)).share

    assert [kept(middle) for middle in (lucky, better, traded)] == [0.0, 0.25, 0.0]
    assert kept(measured([0.9] * 40, 0.81)) == 0.25
    assert (
        best_share(shares_of(start, SearchScore(0.99, 0.9), lambda share: SearchScore(0.9 + share / 20, 0.9))).share
        == 0
    )


@given(st.sampled_from([0.0, 0.25, 1.0]))
def test_interpolated_weights_lie_on_the_way(share: float) -> None:
    """Both ends to the last bit, and a quarter of the way between."""
    model = torch.nn.Linear(3, 2)
    start, end = ({name: torch.randn(weight.shape) for name, weight in model.named_parameters()} for _ in range(2))
    interpolate(model, start, end, share)
    for name, weight in weights_of(model).items():
        expected = {0.0: start[name], 1.0: end[name]}.get(share, start[name] + share * (end[name] - start[name]))
        assert torch.allclose(weight, expected, atol=0 if share in {0.0, 1.0} else 1e-6, rtol=0)


@pytest.mark.parametrize("lr", [1e-6, 0.9], ids=["gentle", "ruinous"])
def test_kept_model_is_no_worse_than_untrained(examples: list[Example], tmp_path: Path, lr: float) -> None:
    """The checkpoint that is written has the nDCG of the share that was chosen, which the start does not beat."""
    training = train(examples, small_clip(), replace(RECIPE, lr=lr, epochs=1), tmp_path, report=silent)
    kept = load_trainable(str(training.checkpoint))
    data = TrainingData.of(examples, kept, RECIPE, 6, KnownPairs())
    measured = data.near_duplicates().measure(data.learner(kept, "cpu"))
    facts = training.facts
    assert (measured.ndcg, measured.micro_ap) == pytest.approx((facts["validation_ndcg"], facts["validation_micro_ap"]))
    assert measured.ndcg >= facts["validation_ndcg_before"] - 1e-12
    lines = (tmp_path / "shares.csv").read_text(encoding="utf-8").splitlines()
    assert [line.partition(",")[0] for line in lines] == ["share", "0.0", "0.25", "0.5", "0.75", "1.0"]


def test_a_training_that_harms_is_thrown_away(examples: list[Example], tmp_path: Path) -> None:
    """Where every trained share is worse, the untrained weights are kept, to the last bit."""
    before = dict(small_clip().model.named_parameters())
    reports: list[str] = []
    recipe = replace(RECIPE, lr=3e-2, seed=6, epochs=1)
    training = train(examples, small_clip(), recipe, tmp_path, report=reports.append)
    assert reports[-1].endswith(UNTRAINED)
    assert max(line.validation_ndcg for line in training.shares[1:]) < training.shares[0].validation_ndcg
    after = dict(load_trainable(str(training.checkpoint)).model.named_parameters())
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("moment", ["checkpoint", "training.json"])
def test_killed_interpolation_goes_on(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Killed between the two renames of the checkpoint, or after them, it does not interpolate twice."""
    recipe = replace(RECIPE, lr=3e-3, seed=6, epochs=1)
    monkeypatch.setattr(finetune, "best_share", lambda shares: shares[2])  # at a share of 0 twice is as once
    whole = train(examples, small_clip(), recipe, tmp_path / "whole", report=silent)
    assert whole.facts["share"] == 0.5
    rename, put = Path.rename, Path.replace

    def killed(path: Path, target: Path, move: Callable[[Path, Path], Path]) -> Path:
        state = tmp_path / "cut" / "state" / "state.json"
        if Path(target).name == moment and state.is_file() and '"shares"' in state.read_text(encoding="utf-8"):
            raise Stop
        return move(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", lambda path, target: killed(path, target, rename))
        patched.setattr(Path, "replace", lambda path, target: killed(path, target, put))
        with pytest.raises(Stop):
            train(examples, small_clip(), recipe, tmp_path / "cut", report=silent)
    cut = train(examples, small_clip(), recipe, tmp_path / "cut", report=silent)
    assert digest_contents(cut.checkpoint) == digest_contents(whole.checkpoint)
    assert cut.shares == whole.shares


@pytest.mark.parametrize("order", range(3))
def test_equal_photos_tie_in_the_search_of_a_training(order: int) -> None:
    """Of two photos with one vector a copy finds its own second, wherever they stand: BLAS alone tells them apart."""
    distinct = np.random.default_rng(1).normal(size=(111, 257))
    photos = np.repeat(distinct / np.linalg.norm(distinct, axis=1, keepdims=True), 2, axis=0)
    photos = photos[np.random.default_rng(order).permutation(222)]
    assert search_score(photos, photos, np.arange(222)).ndcg == pytest.approx(1 / np.log2(3))
