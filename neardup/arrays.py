"""The kinds of NumPy array that travel between modules, by name."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""Numbers in double precision: similarities, metrics, weights."""
Ints = npt.NDArray[np.int64]
"""Whole numbers: rows, groups, counts."""
Ints32 = npt.NDArray[np.int32]
"""Whole numbers of 32 bits: inner products of small whole numbers."""
Bools = npt.NDArray[np.bool_]
"""Yes or no for each row, pair or pixel: a mask."""
Vectors = npt.NDArray[np.float32]
"""Vectors of an encoder, (n, d), one photo a row; the rows have unit length unless a docstring says otherwise."""
