"""Verification: does a run give the same figures again, with nothing cached?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartmem.errors import IncomparableRuns
from smartmem.evaluation.compare import opened
from smartmem.evaluation.metrics import Outcome
from smartmem.evaluation.results import RunResult
from smartmem.evaluation.runner import run_suite

EXACT, MODEL = 1e-6, 2e-3
_ENDS = ("mean", "lo", "hi")
_TEST = ("difference", "lo", "hi", "mde")
_P = ("p", "p_holm")
_COUNTS = tuple(map(str, Outcome))
_AGAINST = "against "


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far a second run is from the first. `ok` if every figure is within its tolerance; `rows` has one a figure."""

    ok: bool
    largest: float
    compared: int
    rows: list[dict[str, Any]]


def verify(
    run: RunResult | str | Path, *, exact: float = EXACT, model: float = MODEL, cache: str | None = None
) -> Verification:
    """Run again from the manifest, computing every stage anew, and compare each figure: means, ends of intervals,
    counts of outcomes, means by category, and the tests against the baseline.

    Arms without a model (BM25, the mock embedder) must agree to `exact`, arms with one to `model`: another processor
    rounds int8 products otherwise. The p-values of an arm with a model are not compared: a rank that changes places may
    move them by more than any mean. `IncomparableRuns` if the data is not what it was.
    """
    whole = opened(run)
    changes: dict[str, Any] = {"executor": "serial", "latency_queries": 0}
    if cache is not None:
        changes["cache"] = cache
    again = run_suite(whole.suite.model_copy(update=changes), resume=False)
    for dataset in whole.metrics:
        before, now = whole.manifest["datasets"][dataset], again.manifest["datasets"][dataset]
        for name in ("sha256", "qrels_sha256"):
            if before[name] != now[name]:
                raise IncomparableRuns(f"{dataset}: {name} was {before[name][:12]}… and is {now[name][:12]}… now")
    learned = {arm.name: _has_model(whole, arm.name) for arm in whole.suite.arms}
    found = dict(_figures(again))
    rows: list[dict[str, Any]] = []
    for key, old in _figures(whole):
        dataset, arm, metric, figure = key
        by_model = learned[arm] or (metric.startswith(_AGAINST) and learned[whole.suite.baseline])
        if by_model and figure in _P:
            continue
        tolerance = 0.0 if figure in _COUNTS else model if by_model else exact
        new = found.get(key)
        off = 0.0 if old is new is None else float("inf") if old is None or new is None else abs(old - new)
        rows.append(
            {"dataset": dataset, "arm": arm, "metric": metric, "figure": figure, "was": old, "is": new, "off": off}
            | {"tolerance": tolerance, "ok": off <= tolerance}
        )
    return Verification(
        ok=all(row["ok"] for row in rows),
        largest=max((row["off"] for row in rows), default=0.0),
        compared=len(rows),
        rows=rows,
    )


def _figures(run: RunResult) -> Iterator[tuple[tuple[str, str, str, str], float | None]]:
    """((dataset, arm, metric, figure), value) of everything that a report tells but times."""
    for dataset, arms in run.metrics.items():
        for arm, metrics in arms.items():
            for metric, row in metrics.items():
                for figure in (*_ENDS, *_COUNTS):
                    yield (dataset, arm, metric, figure), row[figure]
            categories: Mapping[str, Any] = run.curves.get(dataset, {}).get(arm, {}).get("categories", {})
            for metric, groups in categories.items():
                for category, row in groups.items():
                    yield (dataset, arm, f"{metric} of {category}", "mean"), row["mean"]
    known = {(dataset, arm) for dataset, arms in run.metrics.items() for arm in arms}
    for test in run.comparisons:
        if (test["dataset"], test["arm"]) in known:
            against = f"{_AGAINST}{test['baseline']}: {test['metric']}"
            for figure in (*_TEST, *_P):
                yield (test["dataset"], test["arm"], against, figure), test[figure]


def _has_model(run: RunResult, arm: str) -> bool:
    spec = next(spec for spec in run.suite.arms if spec.name == arm)
    return spec.reranker is not None or (spec.embedder is not None and spec.embedder.get("name") != "mock")
