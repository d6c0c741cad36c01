"""What stage 2 has done since it was made: the web's part of the observability of a corpus."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from smartmem.web.types import RagAnswer

_LATENCIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WebStats:
    """Questions, spans of evidence handed out, answers from snippets (stage 1), observations by kind, latency in
    milliseconds over the last 1,000 questions."""

    questions: int
    evidence: int
    fallbacks: int
    errors: Mapping[str, int]
    p50_ms: float
    p95_ms: float

    @property
    def fallback_rate(self) -> float:
        """Share of the questions that stage 1 answered, or nothing did."""
        return self.fallbacks / self.questions if self.questions else 0.0


class Recorder:
    """Counts answers; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._questions = self._evidence = self._fallbacks = 0
        self._errors: Counter[str] = Counter()
        self._ms: deque[float] = deque(maxlen=_LATENCIES)

    def note(self, answer: RagAnswer) -> None:
        """Count one answer."""
        with self._lock:
            self._questions += 1
            self._evidence += len(answer.answer_evidence)
            self._fallbacks += answer.stage == 1
            self._errors.update(o.kind.value for o in answer.observations)
            self._ms.append(answer.latency_ms)

    def stats(self) -> WebStats:
        """The counts so far."""
        with self._lock:
            p50, p95 = np.percentile(list(self._ms), [50, 95]) if self._ms else (0.0, 0.0)
            return WebStats(
                questions=self._questions,
                evidence=self._evidence,
                fallbacks=self._fallbacks,
                errors=dict(self._errors),
                p50_ms=float(p50),
                p95_ms=float(p95),
            )
