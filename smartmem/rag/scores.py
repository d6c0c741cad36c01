"""Scores of different makers on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def standardised(scores: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """z-scores: (score - mean) / standard deviation, all 0 where every score is the same."""
    values = np.asarray(scores, dtype=np.float64)
    spread = float(values.std()) if len(values) else 0.0
    made: NDArray[np.float64] = (values - values.mean()) / spread if spread > 0 else np.zeros(len(values))
    return made
