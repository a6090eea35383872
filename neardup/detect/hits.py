"""Verification of a search's hits: whether each shows the picture that was searched for, and in what form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neardup.decide.decision import Decision
from neardup.images import MAX_PIXELS
from neardup.search.nearest import Hit
from neardup.verify.evidence import ordered
from neardup.verify.relation import relation_of
from neardup.verify.store import KeypointCache
from neardup.verify.verifier import Verifier
from neardup.words import chance_text


@dataclass(frozen=True)
class VerifiedHit:
    """The verified pair of a photo that was searched for and one of its hits.

    Attributes:
        probability: probability of being near-duplicates, 0 to 1; None where no decision belongs to the encoder.
        band: `link`, `review` or `reject`; empty without a probability.
        relation: what kind of copy it is.
        sentence: the relation in words, with the names of both.
        inliers: number of keypoints that agree on the transform.
    """

    probability: float | None
    band: str
    relation: str
    sentence: str
    inliers: int

    @property
    def text(self) -> str:
        """The sentence with the probability, for people."""
        return self.sentence if self.probability is None else f"{chance_text(self.probability)}: {self.sentence}"


def best_first(
    hits: Sequence[Sequence[Hit]], verified: Sequence[Sequence[VerifiedHit | None]], top: int
) -> tuple[list[list[Hit]], list[list[VerifiedHit | None]]]:
    """Order the hits of each query by probability, and keep the best.

    The query itself stays first; what could not be verified, and hits without a decision, keep the order of their
    similarity, after the others.

    Args:
        hits: hits of each query, the most similar first.
        verified: what was found of each, as `verify_hits` returns it.
        top: how many of each query are kept.

    Returns:
        The hits and what was found of each, in the new order.
    """
    ordered_hits = [
        sorted(
            zip(query_hits, found, strict=True),
            key=lambda one: (not one[0].itself, -(one[1].probability or 0.0) if one[1] else 0.0),
        )[:top]
        for query_hits, found in zip(hits, verified, strict=True)
    ]
    return [[hit for hit, _ in best] for best in ordered_hits], [[proof for _, proof in best] for best in ordered_hits]


def verify_hits(
    queries: Sequence[tuple[str, str]],
    hits: Sequence[Sequence[Hit]],
    read: Callable[[str], bytes],
    state: Path | None,
    decision: Decision | None,
    max_pixels: int = MAX_PIXELS,
) -> list[list[VerifiedHit | None]]:
    """Verify the hits of some photos.

    Args:
        queries: SHA-256 and name of each photo that was searched for.
        hits: hits of each query.
        read: function from a photo's SHA-256 to its bytes; raises `UnreadableImageError` or `OSError` where they are
            gone.
        state: state folder, whose cache keeps keypoints for the next search; None to keep none.
        decision: decision that gives probabilities; None where none belongs to the encoder.
        max_pixels: larger images are refused.

    Returns:
        A list for each query, in the shape of `hits`; None for the query itself, where nothing is to be proved, and
        where a photo cannot be read.
    """
    pairs = [
        (number, ordered(photo, hit.photo), name, hit)
        for number, ((photo, name), query_hits) in enumerate(zip(queries, hits, strict=True))
        for hit in query_hits
    ]
    with Verifier(read, KeypointCache.in_state(state) if state else None, max_pixels) as verifier:
        evidence_of = verifier.verify([pair for _, pair, _, _ in pairs])
    evidence = [evidence_of.get(pair) for _, pair, _, _ in pairs]
    chances: list[float | None] = [None] * len(pairs)
    bands = [""] * len(pairs)
    if decision and pairs:
        similarities = np.array([hit.similarity for _, _, _, hit in pairs], dtype=np.float64)
        probabilities, judged_bands, _ = decision.judge(similarities, evidence)
        chances, bands = list(probabilities.tolist()), list(judged_bands)
    verified = list[list[VerifiedHit | None]]([] for _ in queries)
    for (number, pair, name, hit), item, chance, band in zip(pairs, evidence, chances, bands, strict=True):
        if item is None:
            verified[number].append(None)
            continue
        names = (name, Path(hit.path).name) if pair[1] == hit.photo else (Path(hit.path).name, name)
        relation = relation_of(item)
        verified[number].append(VerifiedHit(chance, band, relation.words, relation.sentence(*names), item.points))
    return verified
