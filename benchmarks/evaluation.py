"""How fast the evaluation bench is. Run it by hand; needs the benchmark data and the models on this machine:

    python benchmarks/evaluation.py [--quick] [--queries N] [--json FILE] [--only sweep|metrics] [--ranx PYTHON]

sweep    12 arms over LoCoMo with nothing cached, and again with everything cached: minutes, ratio, peak memory
metrics  2,000 queries x 12 arms: all metrics with statistics, against ir_measures and ranx on the same rankings

ranx asks for other versions of numpy than we do, so it runs in an environment of its own, named by its Python:

    python -m venv /tmp/ranx && /tmp/ranx/bin/pip install ranx
    python benchmarks/evaluation.py --ranx /tmp/ranx/bin/python

--quick: 200 of LoCoMo's questions and 4 arms, 500 queries of made-up rankings; to see that it works, not to quote.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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


RANX_METRICS = ("ndcg@10", "recall@5", "recall@10", "precision@5", "mrr", "map")
# Numba compiles on the first call, which is no part of the comparison.
RANX = """
import json, sys, time
from ranx import Qrels, Run, evaluate
given = json.load(open(sys.argv[1]))
evaluate(Qrels(given["qrels"]), Run(given["runs"][0]), given["metrics"])
started = time.perf_counter()
qrels = Qrels(given["qrels"])
means = []
for run in given["runs"]:
    means.append({k: float(v) for k, v in evaluate(qrels, Run(run), given["metrics"]).items()})
print(json.dumps({"seconds": time.perf_counter() - started, "means": means}))
"""


def sweep(queries: int | None, arms: int = len(ARMS)) -> dict[str, float]:
    """The same suite twice on an empty cache folder."""
    with tempfile.TemporaryDirectory() as folder:
        suite = make_suite(
            {
                "name": "sweep", "baseline": "bm25", "metrics": METRICS, "arms": ARMS[:arms],
                "datasets": [{"name": "locomo"}], "limit_queries": queries, "latency_queries": 0, "cache": folder,
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


def metrics(queries: int = 2000, arms: int = 12, depth: int = 100, ranx: str | None = None) -> dict[str, float]:
    """Made-up rankings; scoring, intervals and tests of ours against the scores alone of ir_measures and ranx."""
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
        table = np.empty((len(run), len(parsed)))
        for row, (query, scores) in enumerate(run.items()):
            gold = qrels[query]
            ranks = [place for place, unit in enumerate(rank(scores), start=1) if unit in gold]
            table[row] = [metric.of_ranks(ranks, len(gold)) for metric in parsed]
        tables.append(table)
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
    peers = {"ir_measures_s": time.perf_counter() - started}
    if ranx:
        peers["ranx_s"] = _ranx(ranx, qrels, runs, [table.mean(axis=0) for table in tables])
    return {"scores_s": scored, "with_statistics_s": whole} | peers


def _ranx(python: str, qrels: Any, runs: Any, means: Sequence[Any]) -> float:
    """Seconds that ranx takes for the same means (compiled before, reading the JSON left out)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "given.json"
        file.write_text(json.dumps({"metrics": RANX_METRICS, "qrels": qrels, "runs": runs}), "utf-8")
        done = subprocess.run([python, "-c", RANX, str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python} cannot run ranx: {done.stderr[-500:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    for theirs, ours in zip(found["means"], means, strict=True):
        for name, value in zip(RANX_METRICS, ours, strict=True):
            if abs(theirs[name] - value) > 1e-9:
                sys.exit(f"ranx: {name} is {theirs[name]}, ours {value}")
    return float(found["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, help="a sample of LoCoMo's 1,986 questions")
    parser.add_argument("--only", choices=("sweep", "metrics"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ranx", metavar="PYTHON", help="a Python that has ranx")
    parser.add_argument("--quick", action="store_true", help="a small part of everything")
    given = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    if given.only in (None, "metrics"):
        figures["metrics"] = metrics(500 if given.quick else 2000, ranx=given.ranx)
    if given.only in (None, "sweep"):
        figures["sweep"] = sweep(200 if given.quick else given.queries, 4 if given.quick else len(ARMS))
    for part, row in figures.items():
        print(part, "  ".join(f"{name} {value:,.2f}" for name, value in row.items()))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
