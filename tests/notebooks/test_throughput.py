"""Made-up messages through the real chain, more than once on one database."""

from __future__ import annotations

from pathlib import Path

import smartmem
from smartmem.workbench.throughput import work_through


def test_each_call_measures_its_own_jobs(tmp_path: Path) -> None:
    settings = {"batch": 5, "poll_s": 0.05}
    with smartmem.open(f"sqlite:///{tmp_path}/load.db", embedder={"name": "mock"}, jobs=settings) as bench:
        for workers in (1, 2):
            path = work_through(bench, messages=20, users=4, workers=workers)
            assert path.by_state["success"] == path.jobs >= 20
            assert path.jobs_per_s > 0
            assert set(path.message_to_memory_s) == {"p50", "p90", "p95", "p99"}
        assert bench.status().messages == 40
