"""Names of the types of NumPy arrays that modules exchange."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""float64 numbers: similarities, metrics, weights."""
Ints = npt.NDArray[np.int64]
"""int64 numbers: rows, groups, counts."""
Ints32 = npt.NDArray[np.int32]
"""int32 numbers: inner products of small integers."""
Bools = npt.NDArray[np.bool_]
"""Booleans for each row, pair or pixel: a mask."""
Vectors = npt.NDArray[np.float32]
"""float32 vectors of an encoder, (n, d), one row per photo, with unit rows unless a docstring says otherwise."""
