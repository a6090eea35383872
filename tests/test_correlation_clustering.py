"""Groups by correlation clustering: what is held together, what is kept apart, and in whatever order it comes."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.arrays import Floats, Ints
from neardup.decide.complete_linkage import complete_linkage
from neardup.decide.constraints import Constraints
from neardup.decide.correlation_clustering import UNLISTED, WeightedPairs, correlation_clusters, pair_log_odds
from neardup.errors import ConfigError

LINK = float(pair_log_odds(np.array([0.99]))[0])
WEIGHTS = st.floats(-7, 7).map(lambda weight: round(weight, 1))
"""Weights that often are equal, so that ties are among the cases."""


def pairs_of(weights: dict[tuple[int, int], float]) -> WeightedPairs:
    """Pairs from a table of them."""
    ends = np.array(list(weights), dtype=np.int64).reshape(-1, 2)
    return WeightedPairs(ends[:, 0], ends[:, 1], np.array(list(weights.values())))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, dict[tuple[int, int], float]]:
    """Some photos, and weights of some of their pairs."""
    count = draw(st.integers(2, 9))
    every = list(combinations(range(count), 2))
    return count, draw(st.dictionaries(st.sampled_from(every), WEIGHTS))


def connected(count: int, pairs: WeightedPairs) -> Ints:
    """Groups by connected components of the positive pairs."""
    chosen = pairs.weights > 0
    ones, ends = np.ones(int(chosen.sum())), (pairs.left[chosen], pairs.right[chosen])
    return np.asarray(connected_components(coo_array((ones, ends), shape=(count, count)), directed=False)[1])


def completely_linked(count: int, pairs: WeightedPairs) -> Ints:
    """Groups by complete linkage, in which every pair must be a positive one."""
    margins: Floats = np.full((count, count), -1.0)
    linked = np.where(pairs.weights > 0, pairs.weights, -1.0)
    margins[np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right)] = linked
    return complete_linkage(margins) - 1


def plain_contraction(count: int, weights: dict[tuple[int, int], float]) -> set[frozenset[int]]:
    """Greedy contraction once more, slowly: the two groups with the greatest sum, ties left out by the caller."""
    groups = [frozenset([photo]) for photo in range(count)]
    while True:
        sums = {}
        for a, b in combinations(groups, 2):
            between = [weights.get((min(i, j), max(i, j))) for i in a for j in b]
            sums[a, b] = sum(UNLISTED if weight is None else weight for weight in between)
        best = max(sums, key=lambda two: sums[two], default=None)
        if best is None or sums[best] <= 1e-4:
            return set(groups)
        groups = [group for group in groups if group not in best] + [best[0] | best[1]]


def together(groups: Ints) -> set[frozenset[int]]:
    """The groups as sets of photos."""
    return {frozenset(np.flatnonzero(groups == number).tolist()) for number in np.unique(groups)}


def test_disjoint_crops_of_one_original_are_one_group() -> None:
    """Complete linkage takes them apart: the crops share nothing but the original."""
    pairs = pairs_of({(0, 1): LINK, (0, 2): LINK, (1, 2): 0.0})
    assert correlation_clusters(3, pairs).tolist() == [0, 0, 0]
    assert len(together(completely_linked(3, pairs))) == 2


def test_a_dozen_crops_that_are_no_candidates_of_each_other_are_one_group() -> None:
    """The original holds them, though most pairs are not listed."""
    pairs = pairs_of({(0, crop): LINK for crop in range(1, 13)})
    assert set(correlation_clusters(13, pairs).tolist()) == {0}


def test_a_pair_that_geometry_calls_disjoint_weighs_nothing() -> None:
    """A probability near 0 of two crops side by side says nothing against their group."""
    weights = pair_log_odds(np.array([0.95, 0.95, 0.001]), np.array([False, False, True]))
    left, right = np.array([0, 0, 1]), np.array([1, 2, 2])
    assert correlation_clusters(3, WeightedPairs(left, right, weights)).tolist() == [0, 0, 0]
    against = pair_log_odds(np.array([0.95, 0.95, 0.001]))
    assert len(together(correlation_clusters(3, WeightedPairs(left, right, against)))) == 2


def test_one_false_link_does_not_join_two_groups() -> None:
    """The pairs that it would bring together outvote it, though none of them was a candidate; components join all."""
    cliques = {pair: LINK for half in (range(10), range(10, 20)) for pair in combinations(half, 2)}
    pairs = pairs_of({**cliques, (3, 12): LINK})
    assert together(correlation_clusters(20, pairs)) == {frozenset(range(10)), frozenset(range(10, 20))}
    assert len(together(connected(20, pairs))) == 1


def test_a_chain_of_false_links_does_not_become_one_group() -> None:
    """A thousand photos in a row, each linked to the next: connected components make one group of them."""
    weight = float(pair_log_odds(np.array([0.9]))[0])
    pairs = pairs_of({(photo, photo + 1): weight for photo in range(999)})
    assert np.bincount(correlation_clusters(1000, pairs)).max() <= 10
    assert np.bincount(connected(1000, pairs)).max() == 1000


def test_pairs_that_were_looked_at_and_differ_break_a_chain() -> None:
    """With a ~ b ~ c and a and c surely different, one link is given up."""
    groups = correlation_clusters(3, pairs_of({(0, 1): 3.0, (1, 2): 2.0, (0, 2): -6.0}))
    assert groups.tolist() == [0, 0, 1]


@settings(deadline=None)
@given(graphs())
def test_contraction_is_that_of_its_definition(graph: tuple[int, dict[tuple[int, int], float]]) -> None:
    """Compared with a slow version that looks at every two groups; weights are spread, so that nothing ties."""
    count, weights = graph
    generator = np.random.default_rng(len(weights))
    spread = {pair: weight + float(generator.uniform(-0.04, 0.04)) for pair, weight in weights.items()}
    assert together(correlation_clusters(count, pairs_of(spread))) == plain_contraction(count, spread)


@settings(deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_order_of_pairs_does_not_matter(graph: tuple[int, dict[tuple[int, int], float]], random: st.DataObject) -> None:
    """Neither the order of the pairs nor which photo of one comes first, ties included."""
    count, weights = graph
    items = [(pair if random.random() < 0.5 else pair[::-1], weight) for pair, weight in weights.items()]  # type: ignore[attr-defined]
    random.shuffle(items)  # type: ignore[attr-defined]
    shuffled = correlation_clusters(count, pairs_of(dict(items)))
    assert shuffled.tolist() == correlation_clusters(count, pairs_of(weights)).tolist()


@settings(deadline=None)
@given(graphs(), st.permutations(range(9)))
def test_order_of_photos_does_not_matter(graph: tuple[int, dict[tuple[int, int], float]], names: list[int]) -> None:
    """Photos that are numbered otherwise come into the same groups, where no two sums tie."""
    count, weights = graph
    generator = np.random.default_rng(len(weights))
    spread = {pair: weight + float(generator.uniform(-0.04, 0.04)) for pair, weight in weights.items()}
    name = np.argsort(np.array(names[:count]))
    renamed = pairs_of({(int(name[i]), int(name[j])): weight for (i, j), weight in spread.items()})
    expected = {frozenset(int(name[photo]) for photo in group) for group in plain_contraction(count, spread)}
    assert together(correlation_clusters(count, renamed)) == expected


@settings(deadline=None)
@given(graphs(), st.data())
def test_forbidden_pairs_are_apart_and_must_links_together(
    graph: tuple[int, dict[tuple[int, int], float]], data: st.DataObject
) -> None:
    """Whatever the weights say; constraints that cannot all be met are refused instead."""
    count, weights = graph
    some = st.lists(st.sampled_from(list(combinations(range(count), 2))), max_size=5)
    rules = Constraints(tuple(data.draw(some)), tuple(data.draw(some)))
    if rules.contradictions():
        with pytest.raises(ConfigError, match="contradict"):
            correlation_clusters(count, pairs_of(weights), rules)
        return
    groups = correlation_clusters(count, pairs_of(weights), rules)
    assert all(groups[left] == groups[right] for left, right in rules.together)
    assert all(groups[left] != groups[right] for left, right in rules.apart)


def test_two_that_are_joined_keep_the_strangers_of_both() -> None:
    """Each of them must stay apart from another photo, which is like it nevertheless."""
    pairs = WeightedPairs(np.array([0, 0, 1]), np.array([1, 2, 3]), np.array([5.0, 4.0, 3.0]))
    rules = Constraints((), ((0, 2), (1, 3)))
    assert correlation_clusters(4, pairs, rules).tolist() == [0, 0, 1, 2]


def test_a_pair_that_is_not_listed_speaks_against_what_people_joined() -> None:
    """Each photo of a node counts: a weak link to one of two is outweighed by the missing one to the other."""
    pair = WeightedPairs(np.array([0]), np.array([2]), np.array([-UNLISTED / 2]))
    assert correlation_clusters(3, pair, Constraints(((0, 1),), ())).tolist() == [0, 0, 1]
    assert correlation_clusters(3, pair).tolist() == [0, 1, 0]


def test_no_pair_weighs_more_than_seven() -> None:
    """Log-odds of .999: a certain pair, and an impossible one, can be outvoted."""
    assert pair_log_odds(np.array([0.0, 0.5, 1.0])).tolist() == [-7.0, 0.0, 7.0]


def test_contradiction_names_its_pairs() -> None:
    """The sentence has the chain that holds together what must stay apart, by the photos' names."""
    rules = Constraints(together=((0, 1), (1, 2), (4, 5)), apart=((0, 2), (0, 4)))
    with pytest.raises(ConfigError, match=r"contradict each other: a = b, b = c, yet a ≠ c; withdraw one of each"):
        rules.check(name="abcdef".__getitem__)


def test_contradiction_is_told_by_its_shortest_chain() -> None:
    """One pair less to look at: that by one photo, not that by two."""
    rules = Constraints(together=((0, 1), (1, 4), (0, 2), (2, 3), (3, 4)), apart=((0, 4),))
    assert [found.chain for found in rules.contradictions()] == [((0, 1), (1, 4))]


def test_photo_must_not_be_apart_from_itself() -> None:
    """A pair of one photo that must stay apart is a contradiction as well."""
    assert len(Constraints(apart=((3, 3),)).contradictions()) == 1


def test_a_pair_that_is_listed_twice_is_refused() -> None:
    """Its weight would count twice."""
    twice = WeightedPairs(np.array([0, 1]), np.array([1, 0]), np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="listed twice"):
        correlation_clusters(2, twice)


def test_photos_without_pairs_are_groups_of_their_own() -> None:
    """Of no photo there is no group; of three that no pair joins there are three."""
    assert correlation_clusters(3, pairs_of({})).tolist() == [0, 1, 2]
    assert correlation_clusters(0, pairs_of({})).tolist() == []


def test_many_pairs_take_seconds() -> None:
    """A hundred thousand pairs of which most are of one component, in a few seconds on a slow core."""
    generator = np.random.default_rng(0)
    ends = np.unique(np.sort(generator.integers(0, 20_000, (100_000, 2)), axis=1), axis=0)
    ends = ends[ends[:, 0] < ends[:, 1]]
    pairs = WeightedPairs(ends[:, 0], ends[:, 1], generator.normal(0, 3, len(ends)))
    start = time.process_time()
    correlation_clusters(20_000, pairs)
    assert time.process_time() - start < 20
