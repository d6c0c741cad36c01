"""From several ranked lists to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from smartmem.errors import ConfigError
from smartmem.rag.scores import standardised
from smartmem.rag.types import Hit, ranked

Method = Literal["rrf", "zscore", "minmax"]
_RRF = 60  # Cormack, Clarke, Büttcher: Reciprocal Rank Fusion, SIGIR 2009


def check_method(owner: str, method: str) -> None:
    """`ConfigError` for a method that `fuse` does not know."""
    if method not in ("rrf", "zscore", "minmax"):
        raise ConfigError(f"{owner}: method = {method!r}; use rrf, zscore or minmax")


def fuse(lists: Sequence[Sequence[Hit]], weights: Sequence[float], method: Method, depth: int) -> list[Hit]:
    """The weighted sum of the lists' normalised scores, by (-score, id), over everything that is in any list.

    rrf: 1 / (60 + rank). zscore: (score - mean) / standard deviation. minmax: the range as 0 … 1. A chunk that a list
    of `depth` hits does not hold gets that list's lowest normalised score. A shorter list is all that its retriever
    could find: there a missing chunk has the raw score 0 and takes part in the normalisation, so that the only chunk
    with a rare word stands out. `reasons` keep each list's raw score and rank under `score_i` and `rank_i`.
    """
    chunks = {hit.chunk.id: hit.chunk for hits in lists for hit in hits}
    totals = dict.fromkeys(chunks, 0.0)
    reasons: dict[str, dict[str, float]] = {id: {} for id in chunks}
    for i, (hits, weight) in enumerate(zip(lists, weights, strict=True)):
        if not hits:
            continue
        absent = len(chunks) - len(hits) if len(hits) < depth else 0
        scores, missing = _normalised(hits, absent, method)
        held = {hit.chunk.id: score for hit, score in zip(hits, scores, strict=True)}
        for id in totals:
            totals[id] += weight * held.get(id, missing)
        for rank, hit in enumerate(hits, start=1):
            reasons[hit.chunk.id] |= {f"score_{i}": hit.score, f"rank_{i}": float(rank)}
    return ranked([Hit(chunks[id], total, reasons[id]) for id, total in totals.items()])


def _normalised(hits: Sequence[Hit], absent: int, method: Method) -> tuple[list[float], float]:
    """The scores of `hits`, and that of a chunk that is not among them. `absent`: how many are known to score 0."""
    if method == "rrf":
        return [1 / (_RRF + rank) for rank in range(1, len(hits) + 1)], 0.0
    raw = np.array([hit.score for hit in hits] + [0.0] * absent)
    if method == "zscore":
        made = standardised(raw)
    else:
        low, high = float(raw.min()), float(raw.max())
        made = (raw - low) / (high - low) if high > low else np.ones(len(raw))
    scores: list[float] = made[: len(hits)].tolist()
    return scores, float(made[-1]) if absent else min(scores)
