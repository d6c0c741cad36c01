"""Web search measured: snippets (stage 1) against spans of pages (stage 2), on questions with known sources.

`evidence`: the share of gold sentences that stand verbatim in one of the first k texts, white space folded, from an
accepted page. `answer`: the same for the short answer, which a snippet may hold without the whole sentence.
`wrong_source`: among questions for which misleading pages exist (outdated, rumour, copy of the outdated), the share
where the first text from any listed page, right or wrong, is from a wrong one. `latency_ms`: one question, alone.

with LocalWeb() as web:
    found = compare_stages(web.questions(), {"snippets": web.search("tavily"), "pages": web.rag("tavily")})
    found.rows("evidence"), found.paired("evidence", "pages", "snippets")
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smartmem.errors import Unmeasurable
from smartmem.evaluation.stats import Paired, Resampler
from smartmem.progress import bar
from smartmem.text import fold_space
from smartmem.web.local.questions import Question
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch
from smartmem.web.urls import canonical

Texts = Sequence[tuple[str, str]]  # (url, text), best first
METRICS = ("evidence", "answer", "wrong_source", "latency_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One question in one arm. `wrong_source` is None where the question has no misleading page."""

    question: str
    language: str
    evidence: float
    answer: float
    wrong_source: float | None
    latency_ms: float
    stage: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageComparison:
    """Outcomes by arm, on the same questions in the same order."""

    k: int
    outcomes: Mapping[str, tuple[Outcome, ...]]

    def rows(self, metric: str) -> dict[str, dict[str, Any]]:
        """`{arm: {"mean", "lo", "hi", "queries"}}` with 95 % BCa intervals over questions; for tables and charts."""
        made = {}
        for arm in self.outcomes:
            values = self._values(arm, metric)
            interval = Resampler([str(place) for place in range(len(values))]).interval(values)
            made[arm] = {"mean": interval.mean, "lo": interval.lo, "hi": interval.hi, "queries": interval.queries}
        return made

    def paired(self, metric: str, arm: str, baseline: str) -> Paired:
        """`arm` minus `baseline`, question by question."""
        values = self._values(arm, metric)
        return Resampler([str(place) for place in range(len(values))]).paired(values, self._values(baseline, metric))

    def latency(self, arm: str, share: float) -> float:
        """The latency that this share of the questions does not exceed, in milliseconds."""
        return float(np.quantile(self._values(arm, "latency_ms"), share))

    def table(self) -> list[dict[str, Any]]:
        """One row an arm: means, p50 and p95 of the latency, the characters handed over (what a model reads), and how
        many questions were answered from snippets, which stage 2 falls back to.
        """
        rows = {metric: self.rows(metric) for metric in METRICS[:3]}
        return [
            {
                "arm": arm,
                **{metric: rows[metric][arm]["mean"] for metric in rows},
                "p50_ms": self.latency(arm, 0.5),
                "p95_ms": self.latency(arm, 0.95),
                "characters": statistics.fmean(o.characters for o in outcomes),
                "from_snippets": sum(o.stage == 1 for o in outcomes),
                "questions": len(outcomes),
            }
            for arm, outcomes in self.outcomes.items()
        ]

    def _values(self, arm: str, metric: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values = [getattr(outcome, metric) for outcome in self.outcomes[arm]]
        known = np.array([value for value in values if value is not None], dtype=np.float64)
        if not len(known):
            raise Unmeasurable(f"no question has a value in {metric!r}")
        return known


def compare_stages(
    questions: Sequence[Question], arms: Mapping[str, WebSearch | WebRagSearch], *, k: int = 5
) -> StageComparison:
    """Ask every question of every arm, one after the other, each in a session of its own."""
    if not questions or not arms:
        raise Unmeasurable("there are no questions or no arms to measure")
    outcomes = {}
    with bar("asking", len(questions) * len(arms), "question") as shown:
        for name, arm in arms.items():
            found = []
            for question in questions:
                found.append(_outcome(question, arm, k))
                shown.update(1)
            outcomes[name] = tuple(found)
    return StageComparison(k=k, outcomes=outcomes)


def _asked(question: Question, arm: WebSearch | WebRagSearch, k: int) -> tuple[Texts, int]:
    if isinstance(arm, WebSearch):
        return [(result.url, result.snippet) for result in arm.search(question.text, k).results], 1
    session = f"measure-{question.id}"
    answer = arm.ask(question.text, session, top_k=k)
    arm.index.drop(session)
    return [(piece.url, piece.text) for piece in answer.answer_evidence], answer.stage


def _outcome(question: Question, arm: WebSearch | WebRagSearch, k: int) -> Outcome:
    started = time.perf_counter()
    texts, stage = _asked(question, arm, k)
    elapsed = (time.perf_counter() - started) * 1000
    found = [(canonical(url), fold_space(text)) for url, text in texts[:k]]
    right = {canonical(f"http://{page}") for gold in question.gold for page in gold.pages}
    wrong = {canonical(f"http://{page}") for page in question.wrong}
    listed = [url for url, _ in found if url in right or url in wrong]
    return Outcome(
        question=question.id,
        language=question.language,
        evidence=statistics.fmean(_holds(found, g.sentence, g.pages) for g in question.gold),
        answer=float(any(url in right and fold_space(question.answer) in text for url, text in found)),
        wrong_source=float(bool(listed and listed[0] in wrong)) if wrong else None,
        latency_ms=elapsed,
        stage=stage,
        characters=sum(len(text) for _, text in found),
    )


def _holds(found: Texts, sentence: str, pages: Sequence[str]) -> float:
    accepted = {canonical(f"http://{page}") for page in pages}
    return float(any(url in accepted and fold_space(sentence) in text for url, text in found))
