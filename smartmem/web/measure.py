"""Stage 1 (snippets) against stage 2 (evidence from pages) on questions with known sources.

Evidence recall@k: the share of gold sentences that stand verbatim in one of the first k texts, white space folded, from
an accepted page. Answer recall@k: the same for the short answer, which a snippet may hold without the whole sentence.
Wrong-source rate: among questions for which misleading pages exist (outdated, rumour, copy of the outdated), the share
where the first text from any listed page, right or wrong, is from a wrong one.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smartmem.errors import BadRecord, Unmeasurable
from smartmem.text import fold_space
from smartmem.web.rag_search import WebRagSearch
from smartmem.web.search import WebSearch
from smartmem.web.urls import canonical

Texts = Sequence[tuple[str, str]]  # (url, text), best first


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A sentence that answers, and the pages (host and path) on which it counts: the original and true copies."""

    sentence: str
    pages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with its gold sentences; `wrong` are pages that say something else."""

    id: str
    language: str
    text: str
    answer: str
    gold: tuple[Gold, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One question in one stage. `wrong_first` is None where the question has no misleading page."""

    question: str
    language: str
    evidence_recall: float
    answer_recall: float
    wrong_first: bool | None
    latency_ms: float
    stage: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Means over questions (shares 0…1), latency in milliseconds, and the mean length of the k texts together."""

    n: int
    evidence_recall: float
    answer_recall: float
    wrong_source_rate: float
    latency_p50_ms: float
    latency_p95_ms: float
    characters: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Both stages on the same questions. `gain` is the paired difference of evidence recall with its 95 % interval."""

    stage1: Score
    stage2: Score
    gain: float
    gain_low: float
    gain_high: float
    outcomes1: tuple[Outcome, ...]
    outcomes2: tuple[Outcome, ...]


def load_questions(path: Path, copies: Mapping[str, Sequence[str]] | None = None) -> list[Question]:
    """Questions from a JSONL file. `copies` names, for a page, other pages that carry its text. Raises `BadRecord`."""
    also = copies or {}
    questions = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            gold = tuple(Gold(sentence=g["sentence"], pages=(g["page"], *also.get(g["page"], ()))) for g in row["gold"])
            questions.append(
                Question(
                    id=row["id"],
                    language=row["lang"],
                    text=row["question"],
                    answer=row["answer"],
                    gold=gold,
                    wrong=tuple(row["wrong"]),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BadRecord(f"{path}, line {number}: {type(error).__name__}: {error}") from None
    return questions


def compare(questions: Sequence[Question], search: WebSearch, rag: WebRagSearch, *, k: int = 5) -> Comparison:
    """Ask every question of both stages, each in a session of its own."""
    if not questions:
        raise Unmeasurable("there are no questions to measure")

    def snippets(question: Question) -> tuple[Texts, int]:
        return [(r.url, r.snippet) for r in search.search(question.text, k).results], 1

    def evidence(question: Question) -> tuple[Texts, int]:
        session = f"measure-{question.id}"
        answer = rag.ask(question.text, session, top_k=k)
        rag.index.drop(session)
        return [(e.url, e.text) for e in answer.answer_evidence], answer.stage

    first = [_outcome(question, snippets, k) for question in questions]
    second = [_outcome(question, evidence, k) for question in questions]
    gains = np.array([b.evidence_recall - a.evidence_recall for a, b in zip(first, second, strict=True)])
    low, high = _interval(gains)
    return Comparison(
        stage1=_score(first),
        stage2=_score(second),
        gain=float(gains.mean()),
        gain_low=low,
        gain_high=high,
        outcomes1=tuple(first),
        outcomes2=tuple(second),
    )


def _outcome(question: Question, ask: Callable[[Question], tuple[Texts, int]], k: int) -> Outcome:
    started = time.perf_counter()
    texts, stage = ask(question)
    elapsed = (time.perf_counter() - started) * 1000
    found = [(canonical(url), fold_space(text)) for url, text in texts[:k]]
    right = {canonical(f"http://{page}") for gold in question.gold for page in gold.pages}
    wrong = {canonical(f"http://{page}") for page in question.wrong}
    listed = [url for url, _ in found if url in right or url in wrong]
    return Outcome(
        question=question.id,
        language=question.language,
        evidence_recall=statistics.fmean(_holds(found, g.sentence, g.pages) for g in question.gold),
        answer_recall=float(any(url in right and fold_space(question.answer) in text for url, text in found)),
        wrong_first=bool(listed and listed[0] in wrong) if wrong else None,
        latency_ms=elapsed,
        stage=stage,
        characters=sum(len(text) for _, text in found),
    )


def _holds(found: Texts, sentence: str, pages: Sequence[str]) -> float:
    accepted = {canonical(f"http://{page}") for page in pages}
    return float(any(url in accepted and fold_space(sentence) in text for url, text in found))


def _score(outcomes: Sequence[Outcome]) -> Score:
    misled = [o.wrong_first for o in outcomes if o.wrong_first is not None]
    latencies = sorted(o.latency_ms for o in outcomes)
    return Score(
        n=len(outcomes),
        evidence_recall=statistics.fmean(o.evidence_recall for o in outcomes),
        answer_recall=statistics.fmean(o.answer_recall for o in outcomes),
        wrong_source_rate=statistics.fmean(misled) if misled else 0.0,
        latency_p50_ms=float(np.percentile(latencies, 50)),
        latency_p95_ms=float(np.percentile(latencies, 95)),
        characters=statistics.fmean(o.characters for o in outcomes),
    )


def _interval(gains: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """95 % percentile interval of the mean by the paired bootstrap over questions (seeded, 2,000 draws)."""
    draws = np.random.default_rng(7).integers(0, len(gains), size=(2000, len(gains)))
    low, high = np.percentile(gains[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
