"""How rerankers hand back hits of which only some were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smartmem.rag.types import Hit, ranked


def reordered(hits: Sequence[Hit], scores: Mapping[int, float], k: int) -> list[Hit]:
    """Hits by the new scores (position in `hits` to score); those without one follow in the order that they had.

    The rest gets scores just below the lowest new one, so that (-score, id) is the order of the whole answer.
    `reasons` keep `before` (the retriever's score), `rank_before` (from 1) and, where there is one, `rerank`.
    """
    low = min(scores.values(), default=0.0)
    made = []
    for i, hit in enumerate(hits):
        before = {"before": hit.score, "rank_before": float(i + 1)}
        if i in scores:
            made.append(hit.with_score(scores[i], rerank=scores[i], **before))
        else:
            made.append(hit.with_score(low - 1e-6 * (i + 1), **before))
    return ranked(made, max(k, 0))
