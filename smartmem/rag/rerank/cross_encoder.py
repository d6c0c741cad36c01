"""A model that reads question and text together: the best judge that a CPU can pay for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import Sequences
from smartmem.rag.models import resolve
from smartmem.rag.onnx import Encoder
from smartmem.rag.registry import register
from smartmem.rag.rerank.order import reordered
from smartmem.rag.types import Hit, Query


@register("reranker", "cross-encoder")
class CrossEncoderReranker:
    """Scores the first `candidates` hits; the rest keep their order behind them. Scores are sums of logits.

    `context`: 1 adds to each candidate's score that of the same text with the turn before it (an answer often makes
    sense only after its question), 2 that of the two turns before, and so on; each is one more run per candidate.
    `time_budget_ms`: no candidate is begun after this time; the hits that were scored so far go before the others.
    """

    def __init__(
        self,
        model: str = "reranker-en",
        candidates: int = 30,
        context: int = 0,
        time_budget_ms: float | None = None,
        threads: int | None = None,
        max_length: int | None = None,
        sequences: Sequences | None = None,
    ) -> None:
        if candidates < 1 or context < 0:
            raise ConfigError(f"cross-encoder: candidates = {candidates}, context = {context}; needs >= 1 and >= 0")
        if context and sequences is None:
            raise ConfigError(
                "cross-encoder: context needs the order of the turns: make it through a Pipeline, or hand sequences= in"
            )
        files = resolve(model)
        self._encoder = Encoder(files, max_length=max_length or files.entry.max_length, threads=threads)
        self._candidates, self._context, self._budget = candidates, context, time_budget_ms
        self._sequences = sequences

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
        started = time.perf_counter()
        head = hits[: self._candidates]
        texts = [self._texts(hit) for hit in head]
        flat = [text for own in texts for text in own]
        scores: dict[int, float] = {}
        results = self._encoder.pair_scores(query.text, flat)
        for i, own in enumerate(texts):
            scores[i] = sum(next(results) for _ in own)
            if self._budget is not None and (time.perf_counter() - started) * 1e3 > self._budget:
                break
        results.close()  # cancels what was not begun
        return reordered(hits, scores, k)

    def _texts(self, hit: Hit) -> list[str]:
        """The candidate alone and behind its earlier turns. Where a turn has none before it, the text counts twice,
        so that every score is a sum over equally many."""
        texts = [hit.chunk.searchable]
        if self._sequences is not None:
            texts += [self._sequences.window(hit.chunk, before, 0) for before in range(1, self._context + 1)]
        return texts
