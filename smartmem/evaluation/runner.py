"""Run a suite: plan, cells through the cache, scores, files. Killed and started again, it goes on where it stopped.

    suite = load_suite("eval/suites/locomo.toml")
    print(plan(suite))
    result = run_suite(suite, "eval/reports/locomo")

Answers are kept item by item in the stage cache, so resuming is nothing but running again. One arm's fault (a missing
model, a component that raises) is recorded as that arm's error; its queries are `not_run` and the other arms go on.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.clock import UTC
from smartmem.errors import Unmeasurable
from smartmem.evaluation.cache import StageCache
from smartmem.evaluation.cell import Cell, CellCosts, CellResult, reason
from smartmem.evaluation.datasets import Dataset, EvalQuery
from smartmem.evaluation.documents import Corpus
from smartmem.evaluation.executors import run_groups
from smartmem.evaluation.inputs import chosen_queries, dataset_of
from smartmem.evaluation.manifest import make_manifest
from smartmem.evaluation.results import RunResult, _pandas, errors_of
from smartmem.evaluation.scoring import (
    QueryScore,
    Resamplers,
    by_category,
    compare_arms,
    recall_curve,
    saturated,
    score_cell,
    summarise,
)
from smartmem.evaluation.suite import Suite
from smartmem.progress import bar

CURVE_KS = (1, 2, 3, 5, 10, 15, 20, 30, 50)
Inputs = dict[str, tuple[Dataset, Corpus, list[EvalQuery]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlan:
    """What one cell still costs; `error` says why it cannot run (then there are no costs)."""

    dataset: str
    arm: str
    costs: CellCosts | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """All cells. `str()` is the table that `smartmem eval run` prints before it starts."""

    cells: tuple[CellPlan, ...]

    def __str__(self) -> str:
        columns = ("documents", "chunks", "queries", "to run", "vectors ≤", "pairs", "calls ≤")
        lines = [f"{'dataset':<18}{'arm':<26}" + "".join(f"{column:>11}" for column in columns)]
        for cell in self.cells:
            start = f"{cell.dataset:<18}{cell.arm:<26}"
            if cell.costs is None:
                lines.append(f"{start}  cannot run: {cell.error}")
            else:
                lines.append(start + "".join(f"{figure:>11,}" for figure in cell.costs))
        return "\n".join(lines)


def plan(suite: Suite, *, resume: bool = True) -> Plan:
    """What a run would still have to do, given what the cache holds. Loads the data, and the models' files."""
    cells = []
    with StageCache(suite.cache or None, read=resume) as cache:
        for dataset in suite.datasets:
            for arm in suite.arms:
                try:
                    cells.append(
                        CellPlan(dataset=dataset.name, arm=arm.name, costs=Cell(suite, dataset, arm, cache).plan())
                    )
                except Exception as error:  # noqa: BLE001 - the plan shows each arm's fault beside the other arms
                    cells.append(CellPlan(dataset=dataset.name, arm=arm.name, error=reason(error)))
    return Plan(tuple(cells))


def run_suite(
    suite: Suite, out: str | Path | None = None, *, resume: bool = True, now: Callable[[], dt.datetime] | None = None
) -> RunResult:
    """Run all cells and write the run's files to `out` (nothing is written without it).

    `resume=False` computes every stage anew. Raises `DataError` when a dataset cannot be read; arms' faults are in the
    result's `errors`.
    """
    pandas = _pandas()
    started, clock = (now or (lambda: dt.datetime.now(UTC)))(), time.perf_counter()
    inputs = _inputs(suite)
    stages = sum(2 if arm.reranker else 1 for arm in suite.arms)
    total = sum(len(queries) for _, _, queries in inputs.values()) * stages
    with bar(f"eval {suite.name}", total=total, unit="query") as handle:
        cells, cache = run_groups(suite, resume, handle.update)
    by_key = {(cell.dataset, cell.arm): cell for cell in cells}
    grid: dict[str, dict[str, list[QueryScore]]] = {}
    for name, (_, corpus, queries) in inputs.items():
        grid[name] = {a.name: score_cell(suite, queries, corpus, by_key[name, a.name]) for a in suite.arms}
    resamplers = Resamplers(suite)
    metrics = {
        name: {arm: summarise(suite, scores, resamplers) for arm, scores in arms.items()} for name, arms in grid.items()
    }
    manifest = make_manifest(
        suite,
        {name: (dataset, queries) for name, (dataset, _, queries) in inputs.items()},
        cells,
        started=started,
        wall_s=time.perf_counter() - clock,
        cache=cache,
    )
    manifest["saturated"] = {
        spec.name: saturated(suite, inputs[spec.name][2], inputs[spec.name][1], spec.restrict)
        for spec in suite.datasets
    }
    result = RunResult(
        suite=suite,
        metrics=metrics,
        comparisons=[_plain(test) for test in compare_arms(suite, grid, resamplers)],
        curves=_curves(suite, grid, resamplers),
        latency=_latencies(cells),
        manifest=manifest,
        per_query=pandas.DataFrame(_rows(suite, grid, {n for n, (d, _, _) in inputs.items() if d.text_in_reports})),
        errors=errors_of(manifest),
    )
    if out is not None:
        result.save(out)
    return result


def _inputs(suite: Suite) -> Inputs:
    out: Inputs = {}
    for spec in suite.datasets:
        dataset, corpus = dataset_of(spec.model_dump_json())
        queries = chosen_queries(suite, spec, dataset)
        if not queries:
            raise Unmeasurable(f"dataset {spec.name!r} has no query left to run; check `conversations` and `limit`")
        out[spec.name] = dataset, corpus, queries
    return out


def _plain(test: Any) -> dict[str, Any]:
    return {name: getattr(test, name) for name in test.__slots__}


def _curves(
    suite: Suite, grid: dict[str, dict[str, list[QueryScore]]], resamplers: Resamplers
) -> dict[str, dict[str, dict[str, Any]]]:
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for dataset, arms in grid.items():
        for arm, scores in arms.items():
            made: dict[str, Any] = {"recall": [], "categories": {}}
            if any(score.values for score in scores):
                made["recall"] = recall_curve(suite, scores, [k for k in CURVE_KS if k <= suite.k], resamplers)
                made["categories"] = {m: by_category(scores, m, resamplers) for m in suite.metrics}
            out.setdefault(dataset, {})[arm] = made
    return out


def _latencies(cells: list[CellResult]) -> dict[str, dict[str, dict[str, Any]]]:
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        if not cell.latency_ms:
            continue
        p50, p95 = np.percentile(cell.latency_ms, [50, 95])
        out.setdefault(cell.dataset, {})[cell.arm] = {
            "p50": float(p50),
            "p95": float(p95),
            "queries": len(cell.latency_ms),
            "from_cache": cell.latency_from_cache,
            "ms": [round(ms, 3) for ms in cell.latency_ms],
        }
    return out


def _rows(suite: Suite, grid: dict[str, dict[str, list[QueryScore]]], shown: set[str]) -> list[dict[str, Any]]:
    """Rows of per_query.parquet; questions of datasets that may not be copied are left out of it."""
    return [
        {
            "dataset": dataset,
            "arm": arm,
            "query_id": score.query.id,
            "conversation_id": score.query.conversation_id,
            "cluster": score.query.group,
            "category": score.query.category,
            "text": score.query.text if dataset in shown else "",
            "language": score.query.language,
            "outcome": str(score.outcome),
            "reason": score.reason,
            "relevant": list(score.query.relevant or score.query.relevant_sessions),
            "gold_ranks": list(score.gold_ranks),
            "hits": [unit for unit, _ in score.ranking],
            "scores": [value for _, value in score.ranking],
        }
        | {metric: score.values.get(metric, float("nan")) for metric in suite.metrics}
        for dataset, arms in grid.items()
        for arm, scores in arms.items()
        for score in scores
    ]
