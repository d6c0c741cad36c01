"""From ranked chunks to scores by query, and from those to means with intervals and tests.

Every query has an outcome at the suite's level. A metric of another level has its own eligibility: LongMemEval names
sessions where it names no turn. A failed query counts 0 in every mean; one that was not run is in none, and is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smartmem.errors import Unmeasurable
from smartmem.evaluation.cell import CellResult, Ranking
from smartmem.evaluation.datasets import EvalQuery
from smartmem.evaluation.documents import Corpus
from smartmem.evaluation.metrics import Level, Metric, Outcome, best_scores, rank
from smartmem.evaluation.stats import Floats, Resampler, holm
from smartmem.evaluation.suite import Suite

KEPT = 50  # ranked units kept for drill-down


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryScore:
    """One query of one arm. `values` has an entry for each metric that the query is eligible for and was run for."""

    query: EvalQuery
    outcome: Outcome
    reason: str
    ranking: tuple[tuple[str, float], ...]
    gold_ranks: tuple[int, ...]
    values: Mapping[str, float]
    states: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One arm against the baseline in one metric; `p_holm` is over the whole grid of the run."""

    dataset: str
    arm: str
    baseline: str
    metric: str
    difference: float
    lo: float | None
    hi: float | None
    p: float | None
    p_holm: float | None
    exact: bool
    mde: float | None
    wins: int
    losses: int
    ties: int
    clusters: int


@dataclass(slots=True)
class Resamplers:
    """One resampler for each set of queries; building one draws the resamples."""

    suite: Suite
    _known: dict[tuple[str, ...], Resampler] = field(default_factory=dict)

    def of(self, queries: Sequence[EvalQuery]) -> Resampler:
        key = tuple(query.id for query in queries)
        if key not in self._known:
            self._known[key] = Resampler(
                [query.group for query in queries],
                [query.category for query in queries] if self.suite.average == "macro" else None,
                resamples=self.suite.resamples,
                seed=self.suite.seed,
                confidence=self.suite.confidence,
            )
        return self._known[key]


def score_cell(suite: Suite, queries: Sequence[EvalQuery], corpus: Corpus, cell: CellResult) -> list[QueryScore]:
    """Every query of the run, in order, whatever became of it."""
    metrics = suite.parsed_metrics()
    levels = {metric.level or suite.level for metric in metrics} | {suite.level}
    members = {level: corpus.members(cell.chunks, level) for level in levels}
    covering: dict[str, list[str]] = {}
    if Level.CHUNK in levels:
        for chunk, turns in corpus.members(cell.chunks, Level.TURN).items():
            for turn in turns:
                covering.setdefault(turn, []).append(chunk)
    # Where a chunk is its own unit (one turn a document), the hits are the ranking already.
    plain = {level for level, units in members.items() if all(found == (chunk,) for chunk, found in units.items())}
    return [_score_query(suite, metrics, query, cell, members, covering, plain) for query in queries]


def gold_at(query: EvalQuery, level: Level, covering: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The relevant ids of a level; at chunk level those that cover a relevant turn."""
    if level is Level.SESSION:
        return query.relevant_sessions
    if level is Level.TURN:
        return query.relevant
    return tuple(dict.fromkeys(chunk for turn in query.relevant for chunk in covering.get(turn, ())))


def _score_query(
    suite: Suite,
    metrics: Sequence[Metric],
    query: EvalQuery,
    cell: CellResult,
    members: Mapping[Level, Mapping[str, Sequence[str]]],
    covering: Mapping[str, Sequence[str]],
    plain: Set[Level],
) -> QueryScore:
    orders: dict[Level, Ranking] = {}
    hits = cell.hits.get(query.id)
    if hits is not None:
        for level, covered in members.items():
            if level in plain:
                orders[level] = hits
            else:
                units = best_scores(hits, covered)
                orders[level] = [(unit, units[unit]) for unit in rank(units)]
    golds = {level: gold_at(query, level, covering) for level in members}
    places: dict[Level, dict[str, int]] = {}
    for level, order in orders.items():
        wanted = set(golds[level])
        places[level] = {unit: place for place, (unit, _) in enumerate(order, start=1) if unit in wanted}
    outcomes = {level: _outcome(query, gold, cell) for level, gold in golds.items()}
    values, states = {}, {}
    for metric in metrics:
        level = metric.level or suite.level
        states[str(metric)] = outcomes[level]
        if outcomes[level] is Outcome.SCORED:
            values[str(metric)] = metric.of_ranks(list(places[level].values()), len(golds[level]))
        elif outcomes[level] is Outcome.FAILED:
            values[str(metric)] = 0.0
    outcome = outcomes[suite.level]
    found = places.get(suite.level, {})
    reasons = {
        Outcome.FAILED: cell.failed.get(query.id, ""),
        Outcome.INELIGIBLE: query.why_ineligible or "no gold at this level",
        Outcome.NOT_RUN: cell.error or "not run",
    }
    return QueryScore(
        query=query,
        outcome=outcome,
        reason=reasons.get(outcome, ""),
        ranking=tuple(orders.get(suite.level, [])[:KEPT]),
        # 0 stands for "not found", so that a drill-down shows what was missed.
        gold_ranks=tuple(found.get(unit, 0) for unit in golds[suite.level]),
        values=values,
        states=states,
    )


def _outcome(query: EvalQuery, gold: Sequence[str], cell: CellResult) -> Outcome:
    # What was never run is told first: an arm that could not start must not look as if it had run the rest.
    if query.id not in cell.hits and query.id not in cell.failed:
        return Outcome.NOT_RUN
    if not gold:
        return Outcome.INELIGIBLE
    return Outcome.FAILED if query.id in cell.failed else Outcome.SCORED


def column(scores: Sequence[QueryScore], metric: str) -> tuple[list[EvalQuery], Floats]:
    """The queries that have a value, and their values, in order."""
    kept = [score for score in scores if metric in score.values]
    return [s.query for s in kept], np.array([s.values[metric] for s in kept], dtype=np.float64)


def summarise(suite: Suite, scores: Sequence[QueryScore], resamplers: Resamplers) -> dict[str, dict[str, Any]]:
    """`{metric: {"mean", "lo", "hi", "scored", "ineligible", "failed", "not_run"}}`; None where nothing has a value."""
    out: dict[str, dict[str, Any]] = {}
    for metric in suite.metrics:
        states = [score.states[metric] for score in scores]
        queries, values = column(scores, metric)
        row: dict[str, Any] = {"mean": None, "lo": None, "hi": None}
        if queries:
            found = resamplers.of(queries).interval(values)
            row = {"mean": found.mean, "lo": found.lo, "hi": found.hi}
        out[metric] = row | {str(state): states.count(state) for state in Outcome}
    return out


def by_category(scores: Sequence[QueryScore], metric: str, resamplers: Resamplers) -> dict[str, dict[str, Any]]:
    """Mean and interval of one metric within each category."""
    out: dict[str, dict[str, Any]] = {}
    queries, values = column(scores, metric)
    for name in sorted({query.category for query in queries}):
        inside = [i for i, query in enumerate(queries) if query.category == name]
        found = resamplers.of([queries[i] for i in inside]).interval(values[inside])
        out[name] = {"mean": found.mean, "lo": found.lo, "hi": found.hi, "queries": found.queries}
    return out


def compare_arms(
    suite: Suite, grid: Mapping[str, Mapping[str, Sequence[QueryScore]]], resamplers: Resamplers
) -> list[Test]:
    """Each arm against the baseline in each metric, on the queries of both; Holm over everything.

    An arm that was not run on all queries has no test: a difference over part of them would be another question.
    """
    rows: list[dict[str, Any]] = []
    for dataset, arms in grid.items():
        if suite.baseline not in arms:
            continue
        for arm, scores in arms.items():
            if arm == suite.baseline:
                continue
            for metric in suite.metrics:
                queries, values = column(scores, metric)
                base_queries, base = column(arms[suite.baseline], metric)
                if not queries or [q.id for q in queries] != [q.id for q in base_queries]:
                    continue
                found = resamplers.of(queries).paired(values, base)
                rows.append(
                    {"dataset": dataset, "arm": arm, "baseline": suite.baseline, "metric": metric}
                    | {name: getattr(found, name) for name in found.__slots__}
                )
    measured = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(measured, holm([row["p"] for row in measured]), strict=True):
        row["p_holm"] = adjusted
    return [Test(**({"p_holm": None} | row)) for row in rows]


def saturated(suite: Suite, queries: Sequence[EvalQuery], corpus: Corpus, restrict: bool) -> dict[str, int]:
    """Recall metric → how many eligible queries have no more units to search than its k: 1 for all that rank each unit.

    nDCG and MRR still depend on the order then.
    """
    units: dict[Level, dict[str, set[str]]] = {level: {} for level in (Level.TURN, Level.SESSION)}
    for document in corpus.documents:
        owner = str(document.metadata["conversation_id"]) if restrict else ""
        for _, _, turn, session in corpus.places[document.id]:
            units[Level.TURN].setdefault(owner, set()).add(turn)
            units[Level.SESSION].setdefault(owner, set()).add(session)
    out: dict[str, int] = {}
    for metric in suite.parsed_metrics():
        level = metric.level or suite.level
        if metric.k is None or level is Level.CHUNK or not metric.kind.startswith("recall"):
            continue
        sizes = {owner: len(found) for owner, found in units[level].items()}
        count = sum(
            1
            for q in queries
            if gold_at(q, level, {}) and sizes.get(q.conversation_id if restrict else "", 0) <= metric.k
        )
        if count:
            out[str(metric)] = count
    return out


def recall_curve(
    suite: Suite, scores: Sequence[QueryScore], ks: Sequence[int], resamplers: Resamplers
) -> list[dict[str, float]]:
    """recall@k with its interval for each k, at the suite's level, from the ranks of the gold."""
    kept = [score for score in scores if score.outcome in (Outcome.SCORED, Outcome.FAILED)]
    if not kept:
        raise Unmeasurable("no query was scored, so there is no curve")
    resampler = resamplers.of([score.query for score in kept])
    rows = []
    for k in ks:
        values = [sum(1 for r in s.gold_ranks if 0 < r <= k) / len(s.gold_ranks) if s.gold_ranks else 0.0 for s in kept]
        found = resampler.interval(np.array(values))
        low, high = (found.mean if end is None else end for end in (found.lo, found.hi))
        rows.append({"k": float(k), "mean": found.mean, "lo": low, "hi": high})
    return rows
