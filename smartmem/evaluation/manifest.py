"""What it takes to make a run again: code, data, models, seeds, machine, and what the run cost."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import smartmem
from smartmem.evaluation.cell import CellResult
from smartmem.evaluation.datasets import Dataset, EvalQuery
from smartmem.evaluation.inputs import machine, peak_memory_mb
from smartmem.evaluation.metrics import TIE_RULE
from smartmem.evaluation.suite import Suite

MANIFEST_VERSION = 1
_PACKAGES = (
    "smartmem", "numpy", "scipy", "pandas", "pyarrow", "onnxruntime", "tokenizers", "torch", "sentence-transformers",
    "pymilvus", "milvus-lite", "bm25s", "ragas", "openai",
)  # fmt: skip
_LOCKS = ("constraints.txt", "requirements.txt", "uv.lock")


def qrels_hash(queries: Iterable[EvalQuery]) -> str:
    """Of the questions and their gold: two runs are comparable only if this is the same."""
    digest = hashlib.sha256()
    for query in queries:
        parts = (query.id, query.text, query.category, query.group, *query.relevant, "|", *query.relevant_sessions)
        digest.update("\x1f".join(parts).encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()


def git_state() -> dict[str, Any]:
    """Commit and whether anything is changed; empty outside a checkout."""
    root = Path(smartmem.__file__).resolve().parent.parent

    def ask(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is found on the path, as everywhere
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    try:
        # Only what the run depends on: a changed note beside it makes no other figures.
        dirty = ask("status", "--porcelain", "--untracked-files=no", "--", "smartmem", "data/tiny", "eval/suites")
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(dirty)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": "", "dirty": None}


def lock_hash() -> dict[str, str]:
    """SHA-256 of the files that pin versions, by name."""
    root = Path(smartmem.__file__).resolve().parent.parent
    files = [root / name for name in _LOCKS if (root / name).is_file()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a figure."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, memory and system, without the machine's name."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    except (ValueError, OSError):
        memory = 0.0
    return {
        "processor": machine(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_1m_at_end": round(os.getloadavg()[0], 2),
    }


def usage_of(cells: Iterable[CellResult]) -> dict[str, Any]:
    """Calls of models, texts and tokens over all cells; `tokens` leaves out the arms in `not_counted`, whose model
    does not tell."""
    asked = [cell for cell in cells if "model_calls" in cell.costs]
    return {
        "calls": int(sum(cell.costs["model_calls"] for cell in asked)),
        "texts": int(sum(cell.costs["model_texts"] for cell in asked)),
        "tokens": int(sum(cell.costs.get("model_tokens", 0) for cell in asked)),
        "not_counted": sorted({cell.arm for cell in asked if "model_tokens" not in cell.costs}),
    }


def make_manifest(
    suite: Suite,
    datasets: Mapping[str, tuple[Dataset, list[EvalQuery]]],
    cells: Iterable[CellResult],
    *,
    started: dt.datetime,
    wall_s: float,
    cache: Mapping[str, int],
) -> dict[str, Any]:
    """Everything of EVALUATION.md §4; plain values only."""
    known = list(cells)
    return {
        "version": MANIFEST_VERSION,
        "suite": suite.plain(),
        "started_at": started.isoformat(timespec="seconds"),
        "wall_s": round(wall_s, 3),
        # Of this process; of the largest worker where the cells ran in others.
        "peak_memory_mb": round(max(peak_memory_mb(), cache.get("peak_memory_mb", 0)), 1),
        "git": git_state(),
        "locks": lock_hash(),
        "versions": versions(),
        "hardware": hardware(),
        "tie_rule": TIE_RULE,
        "seed": suite.seed,
        "seeds": {"sample": suite.seed, "bootstrap": suite.seed, "permutation": suite.seed + 1},
        "usage": usage_of(known),
        "datasets": {
            name: {
                "sha256": dataset.sha256,
                "hash_checked": dataset.hash_checked,
                "licence": dataset.licence,
                "files": dict(dataset.files),
                "counts": dataset.counts(),
                "qrels_sha256": qrels_hash(queries),
                "queries": len(queries),
                "notes": [f"{n.kind}: {n.record} {n.field}: {n.value} ({n.why})" for n in dataset.notes[:200]],
            }
            for name, (dataset, queries) in datasets.items()
        },
        "cells": [
            {
                "dataset": cell.dataset,
                "arm": cell.arm,
                "spec": cell.spec,
                "model_fingerprint": cell.fingerprint,
                "reranker_fingerprint": cell.reranker_fingerprint,
                "chunks": len(cell.chunks),
                "error": cell.error,
                "failed_queries": len(cell.failed),
                "costs": {name: round(value, 3) for name, value in cell.costs.items()},
                "latency_from_cache": cell.latency_from_cache,
            }
            for cell in known
        ],
        "cache": {name: cache.get(name, 0) for name in ("hits", "misses")},
    }
