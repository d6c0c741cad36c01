"""A model that reads question and text together: the best judge that a CPU can pay for."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from smartmem.errors import ConfigError
from smartmem.rag.dialogue import Sequences
from smartmem.rag.models import resolve, unread
from smartmem.rag.onnx import Encoder, loaded
from smartmem.rag.registry import register
from smartmem.rag.rerank.order import reordered
from smartmem.rag.rerank.pairs import CachedPairs
from smartmem.rag.scores import standardised
from smartmem.rag.trace import stage
from smartmem.rag.types import Hit, Query


@register("reranker", "cross-encoder")
class CrossEncoderReranker:
    """Scores the first `candidates` hits; the rest keep their order behind them.

    Each candidate is read alone, and again behind the turn before it (`context`: up to how many turns before) and in
    front of the turn after it (`after`): an answer often makes sense only beside its question. Each of these is one run
    more; their logits are added up. `blend` adds that many times the retriever's score, as a z-score among the
    candidates, which keeps what only the retriever saw. The sum over the number of runs becomes the score by the
    logistic function: 0 … 1, about 1 where the model sees an answer, an order and no calibrated probability.
    `time_budget_ms`: no candidate is begun after this time; those that were scored so far go before the others.
    `pair_cache`: a file that keeps every logit (see `pairs`).

    The retriever's order is kept where the model would only harm it: for a question in a language that it does not read
    (models.toml says which it does), and for one of more than `max_query_words` words, a stretch of dialogue rather
    than a question: these models learnt from short ones.
    """

    def __init__(
        self,
        model: str = "reranker-en",
        candidates: int = 30,
        context: int = 0,
        after: int = 0,
        blend: float = 0.0,
        max_query_words: int = 32,
        time_budget_ms: float | None = None,
        threads: int | None = None,
        max_length: int | None = None,
        pair_cache: str | None = None,
        sequences: Sequences | None = None,
    ) -> None:
        if candidates < 1 or context < 0 or after < 0 or blend < 0:
            raise ConfigError(
                f"cross-encoder: candidates = {candidates}, context = {context}, after = {after}, blend = {blend}; "
                "candidates needs 1 or more, the others 0 or more"
            )
        if (context or after) and sequences is None:
            raise ConfigError(
                "cross-encoder: context and after need the order of the turns; make it through a Pipeline, "
                "or hand sequences= in"
            )
        if pair_cache is not None and time_budget_ms is not None:
            raise ConfigError("cross-encoder: pair_cache reads all pairs of a query at once; drop time_budget_ms or it")
        files = resolve(model)
        length = max_length or files.entry.max_length
        self._encoder = loaded(files, max_length=length, threads=threads)
        self._pairs: Encoder | CachedPairs = self._encoder
        if pair_cache is not None:
            self._pairs = CachedPairs(self._encoder, pair_cache, f"{model}:{files.version}:{length}")
        self._candidates, self._budget, self._blend = candidates, time_budget_ms, blend
        self._views = [(0, 0), *((n, 0) for n in range(1, context + 1)), *((0, n) for n in range(1, after + 1))]
        self._sequences = sequences
        self._most_words = max_query_words
        self._languages = files.entry.languages
        self.fingerprint = f"cross-encoder:{model}:{files.version}"

    @property
    def tokens_read(self) -> int:
        """Tokens that the model has read so far."""
        return self._encoder.tokens_read

    def rerank(self, query: Query, hits: Sequence[Hit], k: int) -> list[Hit]:
        if why := self._cannot_judge(query.text):
            with stage("cross-encoder") as out:
                out.note = f"{why}: order kept"
                kept = out.hits = list(hits[: max(k, 0)])
            return kept
        started = time.perf_counter()
        head = hits[: self._candidates]
        texts = [text for hit in head for text in self._texts(hit)]
        scores: dict[int, float] = {}
        results = self._pairs.pair_scores(query.text, texts)
        for i, before in enumerate(standardised([hit.score for hit in head]).tolist()):
            total = sum(next(results) for _ in self._views) + self._blend * before
            scores[i] = 1 / (1 + math.exp(-total / len(self._views)))
            if self._budget is not None and (time.perf_counter() - started) * 1e3 > self._budget:
                break
        results.close()  # cancels what was not begun
        return reordered(hits, scores, k)

    def _cannot_judge(self, text: str) -> str:
        """Why the model's judgement of this question would be noise; empty if it would not."""
        if why := unread(self._languages, text):
            return why
        words = len(text.split())
        return f"the question has {words} words, more than {self._most_words}" if words > self._most_words else ""

    def _texts(self, hit: Hit) -> list[str]:
        """The candidate in each view. Where it has no neighbour, its text counts again, so that every score is a sum
        over equally many."""
        if self._sequences is None:
            return [hit.chunk.searchable]
        return [self._sequences.window(hit.chunk, before, after) for before, after in self._views]
