"""From several ranked lists to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from smartmem.errors import ConfigError
from smartmem.rag.types import Hit, ranked

Method = Literal["rrf", "zscore", "minmax"]
_RRF = 60  # Cormack, Clarke, Büttcher: Reciprocal Rank Fusion, SIGIR 2009


def check_method(owner: str, method: str) -> None:
    """`ConfigError` for a method that `fuse` does not know."""
    if method not in ("rrf", "zscore", "minmax"):
        raise ConfigError(f"{owner}: method = {method!r}; use rrf, zscore or minmax")


def fuse(lists: Sequence[Sequence[Hit]], weights: Sequence[float], method: Method) -> list[Hit]:
    """The weighted sum of the lists' normalised scores, by (-score, id), over everything that is in any list.

    rrf: 1 / (60 + rank). zscore: (score - mean) / standard deviation of the list. minmax: the list's range as 0 … 1.
    A chunk that a list does not hold gets that list's lowest normalised score (rrf: nothing).
    `reasons` keep each list's raw score and rank under `score_i` and `rank_i`.
    """
    totals: dict[str, float] = {}
    first: dict[str, Hit] = {}
    reasons: dict[str, dict[str, float]] = {}
    floors = 0.0
    for i, (hits, weight) in enumerate(zip(lists, weights, strict=True)):
        if not hits:
            continue
        scores = _normalised(hits, method)
        floor = 0.0 if method == "rrf" else weight * min(scores)
        floors += floor
        for rank, (hit, score) in enumerate(zip(hits, scores, strict=True), start=1):
            id = hit.chunk.id
            first.setdefault(id, hit)
            totals[id] = totals.get(id, 0.0) + weight * score - floor
            reasons.setdefault(id, {}).update({f"score_{i}": hit.score, f"rank_{i}": float(rank)})
    return ranked([Hit(first[id].chunk, floors + total, reasons[id]) for id, total in totals.items()])


def _normalised(hits: Sequence[Hit], method: Method) -> list[float]:
    if method == "rrf":
        return [1 / (_RRF + rank) for rank in range(1, len(hits) + 1)]
    scores = np.array([hit.score for hit in hits])
    if method == "zscore":
        spread = float(scores.std())
        scores = (scores - scores.mean()) / spread if spread > 0 else np.zeros(len(scores))
    else:
        low, high = float(scores.min()), float(scores.max())
        scores = (scores - low) / (high - low) if high > low else np.ones(len(scores))
    normalised: list[float] = scores.tolist()
    return normalised
