"""What all embedders share: rows of unit length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smartmem.rag.protocols import Vectors


def unit(rows: NDArray[np.floating]) -> Vectors:
    """L2-normalise each row of (n, dim) as contiguous float32.

    A zero row (a text without any known token) becomes the first basis vector: a cosine with a zero vector is
    undefined, and servers answer NaN to it.
    """
    made = np.array(rows, dtype=np.float32, order="C")
    norms = np.linalg.norm(made, axis=1, keepdims=True)
    blank = norms[:, 0] == 0
    if blank.any():
        made[blank, 0] = 1
        norms[blank] = 1
    made /= norms
    return made


def empty(dim: int) -> Vectors:
    """The answer to no texts: (0, dim)."""
    return np.zeros((0, dim), dtype=np.float32)
