"""The write path from its own history: how fast jobs went through, how long a message took to become a memory.

Takes frames as the tables have them (`memory_job_events`), so that a live site and a benchmark are measured alike.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartmem.errors import DataError, Unmeasurable, needs
from smartmem.evaluation.results import WRITE_PATH_FILE, write_whole
from smartmem.types import JobStatus

if TYPE_CHECKING:
    import pandas as pd

_POINTS = 200
_STRETCHES = 40
_PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePath:
    """Figures of one stretch of work. Times in seconds, percentiles by name (`p50` …). `series`: how many jobs were in
    each state at each moment; `throughput`: how many a second came into it (`seconds`: the middle of each stretch)."""

    jobs: int
    by_state: dict[str, int]
    retries: int
    retry_rate: float
    dead: int
    seconds: float
    jobs_per_s: float
    job_latency_s: dict[str, float]
    message_to_memory_s: dict[str, float]
    series: dict[str, list[float]]
    throughput: dict[str, list[float]]


def write_path(events: pd.DataFrame, messages: pd.DataFrame | None = None) -> WritePath:
    """From job events (`job_id`, `to_status`, `at`, in any order) and, if known, messages (`message_at`, `memory_at`).

    A job's latency runs from its first event to its final one; a retry is each event into `failed`. Times may be
    datetimes or numbers of seconds. Raises `Unmeasurable` without events.
    """
    missing = {"job_id", "to_status", "at"} - set(events.columns)
    if missing or not len(events):
        lacking = f"columns {sorted(missing)}" if missing else "rows"
        raise Unmeasurable(f"the job events have no {lacking}; read them from memory_job_events")
    ordered = events.sort_values("at", kind="stable")
    at = _seconds(ordered["at"])
    start = float(at.min())
    jobs = ordered["job_id"].to_numpy()
    status = ordered["to_status"].astype(str).to_numpy()
    final: dict[Any, str] = dict(zip(jobs, status, strict=True))
    born: dict[Any, float] = {}
    done: dict[Any, float] = {}
    for job, state, time in zip(jobs, status, at, strict=True):
        born.setdefault(job, time)
        if state in (JobStatus.SUCCESS, JobStatus.DEAD):
            done[job] = time
    states = {str(state): sum(1 for s in final.values() if s == state) for state in JobStatus}
    retries = int(np.count_nonzero(status == JobStatus.FAILED))
    seconds = float(at.max()) - start
    waited = None
    if messages is not None and len(messages):
        pairs = messages.dropna(subset=["message_at", "memory_at"])
        waited = _seconds(pairs["memory_at"]) - _seconds(pairs["message_at"])
    return WritePath(
        jobs=len(final),
        by_state=states,
        retries=retries,
        retry_rate=retries / len(final),
        dead=states[JobStatus.DEAD],
        seconds=seconds,
        jobs_per_s=len(done) / seconds if seconds > 0 else 0.0,
        job_latency_s=_percentiles(np.array([done[job] - born[job] for job in done])),
        message_to_memory_s=_percentiles(waited if waited is not None else np.array([])),
        series=_series(jobs, status, at - start),
        throughput=_throughput(status, at - start),
    )


def _seconds(values: pd.Series[Any]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if values.dtype.kind in "iuf":
        return values.to_numpy(dtype=np.float64)
    with needs("eval"):
        import pandas

    moments = pandas.to_datetime(values, utc=True, format="ISO8601")
    return np.asarray((moments - pandas.Timestamp(0, tz="UTC")).dt.total_seconds(), dtype=np.float64)


def _percentiles(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    if not len(values):
        return {}
    return {f"p{p}": float(v) for p, v in zip(_PERCENTILES, np.percentile(values, _PERCENTILES), strict=True)}


def _series(
    jobs: np.ndarray[Any, Any], status: np.ndarray[Any, Any], at: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> dict[str, list[float]]:
    """How many jobs were in each state at up to 200 moments."""
    moments = np.linspace(0.0, float(at.max()) or 1.0, _POINTS)
    counts = {str(state): 0 for state in JobStatus}
    out: dict[str, list[float]] = {"seconds": moments.tolist()} | {state: [] for state in counts}
    now: dict[Any, str] = {}
    place = 0
    for moment in moments:
        while place < len(at) and at[place] <= moment:
            job, state = jobs[place], str(status[place])
            if job in now:
                counts[now[job]] -= 1
            now[job] = state
            counts[state] = counts.get(state, 0) + 1
            place += 1
        for state in list(out):
            if state != "seconds":
                out[state].append(float(counts.get(state, 0)))
    return out


def _throughput(
    status: np.ndarray[Any, Any], at: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> dict[str, list[float]]:
    """Changes into each state a second over 40 equal stretches; a state that nothing came into is left out."""
    edges = np.linspace(0.0, float(at.max()) or 1.0, _STRETCHES + 1)
    out = {"seconds": ((edges[:-1] + edges[1:]) / 2).tolist()}
    for state in JobStatus:
        counts = np.histogram(at[status == str(state)], bins=edges)[0]
        if counts.any():
            out[str(state)] = (counts / (edges[1] - edges[0])).tolist()
    return out


def save_write_path(folder: Path, found: WritePath) -> None:
    """Keep the figures beside a run's, so that its report can be written again."""
    write_whole(folder / WRITE_PATH_FILE, json.dumps(dataclasses.asdict(found), indent=1) + "\n")


def load_write_path(folder: Path) -> WritePath | None:
    """What `save_write_path` kept in a run's folder, if anything."""
    file = folder / WRITE_PATH_FILE
    if not file.is_file():
        return None
    try:
        return WritePath(**json.loads(file.read_text("utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise DataError(f"{file}: {error}; delete it, or name the database again with --write-path") from None
