"""Which pairs are verified: each photo with its nearest ones, and two photos that both match a third one."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from neardup.arrays import Ints, Vectors
from neardup.search.nearest import nearest_rows
from neardup.verify.evidence import Evidence
from neardup.verify.store import EvidenceByPair

CANDIDATES = 20
"""Nearest photos of each that are verified: they hold 99.5 % of an archive's true pairs, with closing pairs all."""
LEAST_SIMILARITY = -1.0
"""Cosine similarity from which a pair is a candidate by default: any, for geometry decides.

Of 919 photographs and copies, a limit of 0.54, which 99.5 % of the true pairs of other photographs reach, left out 63
true pairs that are links once they are verified, and 3 false ones: photos within pages and montages, small crops, and
prints turned by 45°.
"""
CLOSING_LIMIT = -4.0
"""Decimal logarithm of the number of false alarms at or below which two matches of one photo make a closing pair.

One false match in ten thousand remains; each leads to up to `CANDIDATES` further pairs that are looked at in vain.
"""


def closing_pairs(known: EvidenceByPair, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of photos that both match a third one and are not among the given pairs: ordered, each once.

    Two crops of one print may be far from each other for the encoder while each is near the print (Chum et al. 2007
    expand queries likewise). Measured on held-out plates with press copies: 1 % more pairs hold 3 % more of the true
    ones.

    Args:
        known: evidence of the pairs.
        pairs: the SHA-256 of both photos, the lesser first.
    """
    given = set(pairs)
    matches: dict[str, list[tuple[float, str]]] = {}
    for first, second in given:
        evidence = known.get((first, second))
        if evidence and matches_well(evidence):
            matches.setdefault(first, []).append((evidence.log_false_alarms, second))
            matches.setdefault(second, []).append((evidence.log_false_alarms, first))
    strongest = (sorted(photo for _, photo in sorted(partners)[:CANDIDATES]) for partners in matches.values())
    return sorted({pair for photos in strongest for pair in combinations(photos, 2)} - given)


def matches_well(evidence: Evidence) -> bool:
    """Whether a pair matches so well that other matches of its two photos are worth verifying with each other.

    Doubtful matches are those of two faces in one pose: a thousand portraits had 1,241 closing pairs by them, and have
    120. Among 919 photographs and copies no true closing pair was lost.
    """
    return evidence.matched and not evidence.doubtful and evidence.log_false_alarms <= CLOSING_LIMIT


def near_together(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Order pairs so that the pairs of one photo, and those of its partners, follow each other.

    Few photos' keypoints then need to be in memory at a time. The photos are taken in the order of Cuthill and McKee
    (1969), which keeps the neighbours in a graph together.
    """
    ordered_pairs = sorted(pairs)
    if not ordered_pairs:
        return []
    photos = sorted({photo for pair in ordered_pairs for photo in pair})
    row_of = {photo: row for row, photo in enumerate(photos)}
    ends = np.array([(row_of[first], row_of[second]) for first, second in ordered_pairs])
    edges = np.concatenate([ends, ends[:, ::-1]])
    graph = coo_array((np.ones(len(edges), dtype=bool), edges.T), shape=(len(photos), len(photos))).tocsr()
    ranks = np.argsort(reverse_cuthill_mckee(graph, symmetric_mode=True))[ends]
    order = np.lexsort((ranks.max(axis=1), ranks.min(axis=1)))
    return [ordered_pairs[number] for number in order.tolist()]


def with_pairs(rows: Ints, more: Iterable[tuple[int, int]]) -> Ints:
    """Join candidate pairs and further pairs: int64 (m, 2), the lesser row first, sorted, each pair once.

    Args:
        rows: int64 (n, 2), as `candidate_pairs` gives them.
        more: two rows of each further pair, in either order.
    """
    added = np.array([sorted(pair) for pair in more], dtype=np.int64).reshape(-1, 2)
    return np.unique(np.concatenate([rows, added]), axis=0)


def candidate_pairs(vectors: Vectors, least: float = LEAST_SIMILARITY, most: int = CANDIDATES) -> Ints:
    """Find the pairs of which one photo is among the other's nearest: int64 (m, 2), rows, the lesser first, sorted.

    Args:
        vectors: float32 (n, d), unit rows.
        least: least similarity of a candidate.
        most: how many of a photo's nearest make a pair with it.
    """
    pairs = [
        (min(row, other), max(row, other))
        for row, nearest in enumerate(nearest_rows(vectors, vectors, most + 1))
        for other, similarity in [hit for hit in nearest if hit[0] != row][:most]
        if similarity >= least
    ]
    return np.unique(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=0)
