"""Two runs, or two arms of one run, on the same questions. Anything else is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartmem.errors import ConfigError, IncomparableRuns, Unmeasurable
from smartmem.evaluation.results import RunResult, load_run
from smartmem.evaluation.stats import Paired, Resampler, holm

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`b` minus `a` for one dataset, arm and metric; `p_holm` is over all comparisons made together."""

    dataset: str
    arm: str
    metric: str
    mean_a: float
    mean_b: float
    paired: Paired
    p_holm: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChange:
    """One query that two arms answer differently; `change` is b minus a."""

    query_id: str
    category: str
    text: str
    a: float
    b: float
    change: float


def opened(run: RunResult | str | Path) -> RunResult:
    """A run from its folder, unless it is one already."""
    return run if isinstance(run, RunResult) else load_run(run)


def require_same_questions(a: RunResult, b: RunResult, dataset: str) -> None:
    """`IncomparableRuns` unless both runs asked the same queries with the same gold of the same data."""
    left, right = a.manifest["datasets"][dataset], b.manifest["datasets"][dataset]
    for name, what in (("sha256", "data"), ("qrels_sha256", "queries or qrels")):
        if left[name] != right[name]:
            raise IncomparableRuns(
                f"{dataset}: the runs differ in their {what} ({left[name][:12]}… and {right[name][:12]}…, "
                f"{left['queries']} and {right['queries']} queries); run both on the same data with the same limits"
            )
    if a.suite.average != b.suite.average or a.suite.level != b.suite.level:
        raise IncomparableRuns(
            f"{dataset}: one run has {a.suite.average} averages at {a.suite.level} level, the other "
            f"{b.suite.average} at {b.suite.level}; use one suite for both"
        )


def compare_runs(a: RunResult | str | Path, b: RunResult | str | Path) -> list[Comparison]:
    """Every arm and metric that both runs have, paired by query. Arms are the same if they have the same name."""
    first, second = opened(a), opened(b)
    shared = [name for name in first.metrics if name in second.metrics]
    if not shared:
        raise IncomparableRuns(f"the runs share no dataset: {', '.join(first.metrics)} and {', '.join(second.metrics)}")
    found: list[tuple[str, str, str, float, float, Paired]] = []
    for dataset in shared:
        require_same_questions(first, second, dataset)
        for arm in first.metrics[dataset]:
            if arm not in second.metrics[dataset]:
                continue
            for metric in first.suite.metrics:
                if metric in second.suite.metrics:
                    pair = _paired(first, second, dataset, arm, arm, metric)
                    if pair is not None:
                        found.append((dataset, arm, metric, *pair))
    if not found:
        raise Unmeasurable("the runs share no arm and metric that both could measure; compare arms by name instead")
    adjusted = _holm([row[-1].p for row in found])
    return [
        Comparison(dataset=d, arm=arm, metric=m, mean_a=x, mean_b=y, paired=paired, p_holm=p)
        for (d, arm, m, x, y, paired), p in zip(found, adjusted, strict=True)
    ]


def _holm(values: list[float | None]) -> list[float | None]:
    known = iter(holm([p for p in values if p is not None]))
    return [None if p is None else next(known) for p in values]


def _paired(
    a: RunResult, b: RunResult, dataset: str, arm_a: str, arm_b: str, metric: str
) -> tuple[float, float, Paired] | None:
    left, right = _scores(a.per_query, dataset, arm_a, metric), _scores(b.per_query, dataset, arm_b, metric)
    if not len(left) or list(left["query_id"]) != list(right["query_id"]):
        return None  # an arm that did not run on all queries: what is left would be another question
    resampler = Resampler(
        list(left["cluster"]),
        list(left["category"]) if a.suite.average == "macro" else None,
        resamples=a.suite.resamples,
        seed=a.suite.seed,
        confidence=a.suite.confidence,
    )
    x, y = (frame[metric].to_numpy(dtype=np.float64) for frame in (left, right))
    return resampler.mean(x), resampler.mean(y), resampler.paired(y, x)


def _scores(frame: pd.DataFrame, dataset: str, arm: str, metric: str) -> pd.DataFrame:
    return frame[(frame["dataset"] == dataset) & (frame["arm"] == arm) & frame[metric].notna()]


def compare_arms(
    run: RunResult | str | Path, arm_a: str, arm_b: str, *, metric: str | None = None, dataset: str | None = None
) -> Comparison:
    """Arm b minus arm a within a run, paired by query. `Unmeasurable` when one of them did not answer every query."""
    whole = opened(run)
    metric, dataset = metric or whole.suite.metrics[0], dataset or next(iter(whole.metrics))
    _known(whole, dataset, metric, arm_a, arm_b)
    pair = _paired(whole, whole, dataset, arm_a, arm_b, metric)
    if pair is None:
        raise Unmeasurable(
            f"{dataset}: {arm_a} and {arm_b} did not both answer all queries; `eval run` goes on with it"
        )
    mean_a, mean_b, paired = pair
    return Comparison(
        dataset=dataset, arm=arm_b, metric=metric, mean_a=mean_a, mean_b=mean_b, paired=paired, p_holm=paired.p
    )


def changed_queries(
    run: RunResult | str | Path, arm_a: str, arm_b: str, *, metric: str | None = None, dataset: str | None = None
) -> list[QueryChange]:
    """Wins and losses of arm b over arm a within a run, the largest change first, gains before losses of one size."""
    whole = opened(run)
    metric, dataset = metric or whole.suite.metrics[0], dataset or next(iter(whole.metrics))
    _known(whole, dataset, metric, arm_a, arm_b)
    left, right = (_scores(whole.per_query, dataset, arm, metric) for arm in (arm_a, arm_b))
    after = dict(zip(right["query_id"], right[metric], strict=True))
    rows = []
    columns = (left["query_id"], left["category"], left["text"], left[metric])
    for query_id, category, text, a in zip(*columns, strict=True):
        change = after.get(query_id, a) - a
        if abs(change) > 1e-12:
            rows.append(QueryChange(query_id=query_id, category=category, text=text, a=a, b=a + change, change=change))
    return sorted(rows, key=lambda row: (-abs(row.change), -row.change, row.query_id))


def _known(run: RunResult, dataset: str, metric: str, *arms: str) -> None:
    if dataset not in run.metrics:
        raise ConfigError(f"the run has no dataset {dataset!r}; it has: {', '.join(run.metrics)}")
    if metric not in run.suite.metrics:
        raise ConfigError(f"the run has no metric {metric!r}; it has: {', '.join(run.suite.metrics)}")
    for arm in arms:
        if arm not in run.metrics[dataset]:
            raise ConfigError(f"the run has no arm {arm!r}; it has: {', '.join(run.metrics[dataset])}")


def show_query(run: RunResult | str | Path, query_id: str, *, top: int = 10) -> list[dict[str, Any]]:
    """One query in every arm: outcome, scores, the ranks of its gold and the first `top` ranked units.

    Texts are read from the data itself (`text` of the query, `hit_texts`), for the run's files may not hold them.
    """
    whole = opened(run)
    frame = whole.per_query[whole.per_query["query_id"] == query_id]
    if not len(frame):
        near = [str(name) for name in whole.per_query["query_id"].unique() if query_id in str(name)][:5]
        hint = f"; ids like it: {', '.join(near)}" if near else "; ids stand in per_query.parquet"
        raise ConfigError(f"the run has no query {query_id!r}{hint}")
    rows = []
    for _, row in frame.iterrows():
        texts, question, answer = _texts(whole, str(row["dataset"]), query_id)
        gold = set(row["relevant"])
        rows.append(
            {
                "dataset": row["dataset"],
                "arm": row["arm"],
                "question": question,
                "answer": answer,
                "outcome": row["outcome"],
                "reason": row["reason"],
                "metrics": {metric: float(row[metric]) for metric in whole.suite.metrics},
                "gold": [
                    {"id": g, "rank": int(r), "text": texts.get(g, "")}
                    for g, r in zip(row["relevant"], row["gold_ranks"], strict=True)
                ],
                "hits": [
                    {"id": hit, "score": float(score), "relevant": hit in gold, "text": texts.get(hit, "")}
                    for hit, score in list(zip(row["hits"], row["scores"], strict=True))[:top]
                ],
            }
        )
    return rows


def _texts(run: RunResult, dataset: str, query_id: str) -> tuple[dict[str, str], str, str | None]:
    from smartmem.evaluation.inputs import dataset_of

    spec = next(spec for spec in run.suite.datasets if spec.name == dataset)
    data, _ = dataset_of(spec.model_dump_json())
    query = next((query for query in data.queries if query.id == query_id), None)
    texts = {key: f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text for key, _, turn in data.turns()}
    return texts, query.text if query else "", query.answer if query else None
