"""Three corpora over one pipeline each. What tells them apart is data: which filter is obligatory, which are allowed.

corpus = MemoryCorpus(pipeline)
corpus.search("What may I not eat?", user_id=7).hits
corpus.search("What may I not eat?")                    # ScopeError: nothing was searched
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smartmem.errors import ConfigError, ScopeError
from smartmem.rag.pipeline import Pipeline
from smartmem.rag.registry import register
from smartmem.rag.types import Document, Filter, Query, Retrieval
from smartmem.types import Scalar

_LATENCIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusStats:
    """What a corpus has answered since it was made (memory_retrieval_hit_rate, memory_rag_fallback_rate,
    memory_rag_latency_ms). Rates are of searches that were begun; latencies are of the last 1,000, in ms."""

    searches: int
    hits: int
    with_hits: int
    fallbacks: int
    errors: Mapping[str, int]
    p50_ms: float
    p95_ms: float

    @property
    def hit_rate(self) -> float:
        """Searches that found something."""
        return self.with_hits / self.searches if self.searches else 0.0

    @property
    def fallback_rate(self) -> float:
        """Searches in which a stage failed and the order before it was kept."""
        return self.fallbacks / self.searches if self.searches else 0.0


class _ScopedCorpus:
    """The calls of `Corpus`, guarded by `any_of` (one of these fields must be given, with one value) and `allowed`."""

    name: str
    any_of: tuple[str, ...]
    allowed: frozenset[str]

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._lock = threading.Lock()
        self._searches = self._hits = self._with_hits = self._fallbacks = 0
        self._errors: Counter[str] = Counter()
        self._ms: deque[float] = deque(maxlen=_LATENCIES)

    def add(self, documents: Iterable[Document]) -> int:
        """Ingest; returns the number of chunks. Raises `ScopeError` before anything is written when a document's
        metadata lack the obligatory field."""
        listed = list(documents)
        for document in listed:
            if not any(_given(document.metadata.get(field)) for field in self.any_of):
                raise ScopeError(
                    f"corpus {self.name!r}: document {document.id!r} has no {self._wanted()} in its metadata; add it, "
                    "or nobody could find it safely"
                )
        return self.pipeline.ingest(listed)

    def search(
        self,
        text: str | Query,
        k: int | None = None,
        *,
        narrow: Filter | None = None,
        trace: bool = False,
        **scope: Scalar | Sequence[Scalar],
    ) -> Retrieval:
        """Answer a query inside `scope` (field = value, or a list meaning one of); `narrow` adds other conditions.

        Raises `ScopeError` when the obligatory field is missing, blank or a list, `ConfigError` for unknown fields,
        and what embedder and store raise.
        """
        filter = self._filter(scope, narrow)
        query = Query(text=text) if isinstance(text, str) else text
        started = time.perf_counter()
        try:
            found = self.pipeline.retrieve(query, k, filter=filter, trace=trace)
        except Exception as error:
            self._note(started, error=type(error).__name__)
            raise
        self._note(started, hits=len(found.hits), fallback=found.fallback_reason is not None)
        return found

    def delete(self, document_ids: Sequence[str], **scope: Scalar | Sequence[Scalar]) -> None:
        """Forget documents inside `scope`; others' documents of the same id stay."""
        self.pipeline.delete(document_ids, filter=self._filter(scope, None))

    def stats(self) -> CorpusStats:
        """Counters since this corpus was made."""
        with self._lock:
            p50, p95 = np.percentile(list(self._ms), [50, 95]) if self._ms else (0.0, 0.0)
            return CorpusStats(
                searches=self._searches,
                hits=self._hits,
                with_hits=self._with_hits,
                fallbacks=self._fallbacks,
                errors=dict(self._errors),
                p50_ms=float(p50),
                p95_ms=float(p95),
            )

    def _filter(self, scope: Mapping[str, Scalar | Sequence[Scalar]], narrow: Filter | None) -> Filter:
        held = [field for field in self.any_of if field in scope]
        if not held:
            raise ScopeError(f"corpus {self.name!r} was asked without {self._wanted()}; nothing was searched")
        for field in held:
            if not _given(scope[field]):
                raise ScopeError(
                    f"corpus {self.name!r}: {field} = {scope[field]!r} is no one's; give one id (nothing was searched)"
                )
        fields = set(scope) | (narrow.fields() if narrow else set())
        unknown = sorted(fields - self.allowed - set(self.any_of))
        if unknown:
            known = ", ".join(sorted(self.allowed | set(self.any_of)))
            raise ConfigError(f"corpus {self.name!r} has no filter {unknown[0]!r}; it has: {known}")
        return Filter.where(**scope) & (narrow or Filter())

    def _wanted(self) -> str:
        return " or ".join(self.any_of)

    def _note(self, started: float, *, hits: int = 0, fallback: bool = False, error: str = "") -> None:
        with self._lock:
            self._searches += 1
            self._hits += hits
            self._with_hits += hits > 0
            self._fallbacks += fallback
            if error:
                self._errors[error] += 1
            self._ms.append((time.perf_counter() - started) * 1e3)


def _given(value: object) -> bool:
    """One id: a number above 0 or a string that is not blank. True counts as a slip, not as user 1."""
    if isinstance(value, bool):
        return False
    return value > 0 if isinstance(value, int) else isinstance(value, str) and bool(value.strip())


@register("corpus", "memory")
class MemoryCorpus(_ScopedCorpus):
    """What a user's memory holds. `user_id` is obligatory."""

    name = "memory"
    any_of = ("user_id",)
    allowed = frozenset({"namespace", "assistant_id", "conversation_id", "run_id", "memory_type", "type"})


@register("corpus", "chat")
class ChatCorpus(_ScopedCorpus):
    """What was said. `user_id` is obligatory."""

    name = "chat"
    any_of = ("user_id",)
    allowed = frozenset(
        {"conversation_id", "session_id", "assistant_id", "speaker", "role", "date", "occurred_at", "turn"}
    )


@register("corpus", "web")
class WebCorpus(_ScopedCorpus):
    """Pages that were fetched for one question or one session. `query_id` or `session_id` is obligatory."""

    name = "web"
    any_of = ("query_id", "session_id")
    allowed = frozenset({"domain", "published_at", "fetched_at", "language", "source_rank", "url"})
