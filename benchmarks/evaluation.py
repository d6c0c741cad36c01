"""How fast the evaluation bench is. Run it by hand; needs the benchmark data and the models on this machine:

    python benchmarks/evaluation.py [--queries N] [--json FILE] [--only sweep|metrics]

sweep    12 arms over LoCoMo with nothing cached, and again with everything cached: minutes, ratio, peak memory
metrics  2,000 queries x 12 arms: all metrics with statistics, against ir_measures on the same rankings
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from smartmem.evaluation.inputs import peak_memory_mb
from smartmem.evaluation.metrics import parse_metric, rank
from smartmem.evaluation.runner import run_suite
from smartmem.evaluation.stats import Resampler, holm
from smartmem.evaluation.suite import make_suite

METRICS = ("nDCG@10", "recall@5", "recall@10", "precision@5", "MRR", "MAP")
BGE = {"name": "onnx", "model": "bge-small-en"}
ARMS: list[dict[str, Any]] = [
    {"name": "mock", "embedder": "mock", "retriever": "dense"},
    {"name": "bm25", "retriever": "bm25"},
    {"name": "bm25 k1=1.2", "retriever": {"name": "bm25", "k1": 1.2, "b": 0.75}},
    {"name": "bm25 no stemming", "retriever": {"name": "bm25", "stemming": "none"}},
    {"name": "bge", "embedder": BGE, "retriever": "dense"},
    {"name": "hybrid zscore", "embedder": BGE, "retriever": {"name": "hybrid", "method": "zscore"}},
    {"name": "hybrid rrf", "embedder": BGE, "retriever": {"name": "hybrid", "method": "rrf"}},
    {"name": "hybrid minmax", "embedder": BGE, "retriever": {"name": "hybrid", "method": "minmax"}},
    {"name": "hybrid bm25 x2", "embedder": BGE, "retriever": {"name": "hybrid", "weights": [2.0, 1.0]}},
    {"name": "neighbours 0.1", "embedder": BGE, "retriever": {"name": "neighbours", "weight": 0.1}},
    {"name": "neighbours 0.2", "embedder": BGE, "retriever": {"name": "neighbours", "weight": 0.2}},
    {"name": "neighbours bm25", "retriever": {"name": "neighbours", "base": "bm25", "weight": 0.2}},
]


def sweep(queries: int | None) -> dict[str, float]:
    """The same suite twice on an empty cache folder."""
    with tempfile.TemporaryDirectory() as folder:
        suite = make_suite(
            {
                "name": "sweep", "baseline": "bm25", "metrics": METRICS, "arms": ARMS, "datasets": [{"name": "locomo"}],
                "limit_queries": queries, "latency_queries": 0, "cache": folder,
            }
        )  # fmt: skip
        times = []
        for _ in range(2):
            started = time.perf_counter()
            result = run_suite(suite)
            times.append(time.perf_counter() - started)
        if result.errors:
            sys.exit(f"arms that could not run: {result.errors}")
    return {"cold_s": times[0], "warm_s": times[1], "ratio": times[0] / times[1], "peak_memory_mb": peak_memory_mb()}


def metrics(queries: int = 2000, arms: int = 12, depth: int = 100) -> dict[str, float]:
    """Made-up rankings; scoring, intervals and tests of ours against the scores alone of ir_measures."""
    import ir_measures

    rng = np.random.default_rng(1)
    qrels = {f"q{i}": {f"d{j}": 1 for j in rng.choice(300, 3, replace=False)} for i in range(queries)}
    names = [f"d{j}" for j in range(300)]
    runs = [
        {q: dict(zip(rng.permutation(names)[:depth].tolist(), rng.random(depth).tolist(), strict=True)) for q in qrels}
        for _ in range(arms)
    ]
    parsed = [parse_metric(name) for name in METRICS]
    started = time.perf_counter()
    tables = []
    for run in runs:
        orders = {q: rank(scores) for q, scores in run.items()}
        tables.append(np.array([[m.score(orders[q], qrels[q]) for m in parsed] for q in qrels]))
    scored = time.perf_counter() - started
    resampler = Resampler([f"c{i % 10}" for i in range(queries)], [f"k{i % 5}" for i in range(queries)])
    p_values = []
    for table in tables:
        for column in range(len(parsed)):
            resampler.interval(table[:, column])
            p_values.append(resampler.paired(table[:, column], tables[0][:, column]).p or 1.0)
    holm(p_values)
    whole = time.perf_counter() - started
    measures = [ir_measures.parse_measure(name) for name in ("nDCG@10", "R@5", "R@10", "P@5", "RR", "AP")]
    started = time.perf_counter()
    for run, table in zip(runs, tables, strict=True):
        theirs = ir_measures.calc_aggregate(measures, qrels, run)
        for column, measure in enumerate(measures):
            if abs(theirs[measure] - table[:, column].mean()) > 1e-9:
                sys.exit(f"{measure} differs from {METRICS[column]}")
    return {"scores_s": scored, "with_statistics_s": whole, "ir_measures_s": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, help="a sample of LoCoMo's 1,986 questions")
    parser.add_argument("--only", choices=("sweep", "metrics"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    if given.only in (None, "metrics"):
        figures["metrics"] = metrics()
    if given.only in (None, "sweep"):
        figures["sweep"] = sweep(given.queries)
    for part, row in figures.items():
        print(part, "  ".join(f"{name} {value:,.2f}" for name, value in row.items()))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
