"""A split that never divides a legend or a group of look-alikes."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neardup.errors import TrainingError
from neardup.images import bits
from neardup.trainingset import flat

LOOK_ALIKE_BITS = 6
"""Photos whose perceptual hashes (64 bits) differ in so many bits, or fewer, look alike."""


def components(captions: Sequence[str], photos: Sequence[str], looks: Sequence[str]) -> npt.NDArray[np.int64]:
    """What must stay together: int64 (n,), equal numbers for photos joined by caption, content or looks."""
    n = len(captions)
    pairs: list[tuple[int, int]] = []
    for keys in (captions, photos):
        first: dict[str, int] = {}
        pairs += [(first.setdefault(key, i), i) for i, key in enumerate(keys)]
    hashes = bits(list(looks))
    telling = np.array([not flat(look) for look in looks], dtype=bool)
    for i in range(n):
        if telling[i]:
            alike = np.flatnonzero((np.bitwise_count(hashes[i + 1 :] ^ hashes[i]) <= LOOK_ALIKE_BITS) & telling[i + 1 :])
            pairs += [(i, int(j) + i + 1) for j in alike]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def split(together: npt.NDArray[np.int64], share: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divide components into training and validation.

    Args:
        together: int64 (n,), as `components` gives it.
        share: of the photos that validation should have; at least one component is on each side.
        seed: of the choice.

    Returns:
        Indices of the training and of the validation photos, int64, ordered.

    Raises:
        TrainingError: all photos belong together, so that nothing can be divided.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, component in enumerate(together):
        members[int(component)].append(index)
    if len(members) < 2:  # noqa: PLR2004
        raise TrainingError(
            f"the {len(together)} training photos share one legend or look alike, so none can be kept for validation: "
            "add photos with other legends",
        )
    order = np.random.default_rng(seed).permutation(sorted(members))
    wanted = max(1, round(share * len(together)))
    chosen: list[int] = []
    for component in order[:-1]:
        if len(chosen) >= wanted:
            break
        # A component that overshoots by more than it helps is passed over, unless nothing has been chosen yet.
        if not chosen or len(chosen) + len(members[int(component)]) <= wanted * 1.5:
            chosen += members[int(component)]
    validation = np.array(sorted(chosen), dtype=np.int64)
    return np.setdiff1d(np.arange(len(together)), validation), validation
