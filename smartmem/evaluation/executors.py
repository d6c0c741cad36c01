"""Where cells run: here, in processes of this machine (joblib), or on a Dask cluster.

Cells that need the same vectors form a group and run one after the other in one process, so that nothing is embedded
twice; groups run side by side. All workers share the cache folder: on a cluster it must lie on a shared file system.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

from smartmem.errors import ConfigError, EvaluationError, MissingExtra
from smartmem.evaluation.cache import StageCache, key_of
from smartmem.evaluation.cell import Cell, CellResult, reason
from smartmem.evaluation.inputs import peak_memory_mb
from smartmem.evaluation.suite import Suite, make_suite

log = logging.getLogger(__name__)
_CONNECT_S = 10.0
_DIED = (
    "the process of these arms died twice; most often the memory ran out: try a smaller batch or model, "
    "then the same command goes on from what the cache holds ({})"
)
Group = list[tuple[int, int]]
Advance = Callable[[int], Any]


def groups_of(suite: Suite) -> list[Group]:
    """(dataset, arm) numbers, those of one dataset and embedder together."""
    made: dict[bytes, Group] = {}
    for d, dataset in enumerate(suite.datasets):
        for a, arm in enumerate(suite.arms):
            alone = a if arm.embedder is None else -1
            made.setdefault(key_of(dataset.name, arm.embedder, alone), []).append((d, a))
    return list(made.values())


def run_groups(suite: Suite, resume: bool, advance: Advance) -> tuple[list[CellResult], dict[str, int]]:
    """All cells in the suite's order; what the cache answered, and the largest memory of a process that ran cells."""
    groups = groups_of(suite)
    if suite.executor == "serial":
        done: Iterable[Any] = (run_group(suite.plain(), group, resume, advance) for group in groups)
    elif suite.executor == "joblib":
        done = _joblib(suite, groups, resume)
    else:
        done = _dask(suite, groups, resume)
    cells: dict[tuple[int, int], CellResult] = {}
    counts: Counter[str] = Counter()
    peak = 0
    for group, (results, cache) in zip(groups, done, strict=True):
        cells.update(zip(group, results, strict=True))
        peak = max(peak, cache.pop("peak_memory_mb"))
        counts.update(cache)
        if suite.executor != "serial":
            asked = [len(cell.hits) + len(cell.failed) for cell in results]
            stages = [2 if suite.arms[a].reranker else 1 for _, a in group]
            advance(sum(count * each for count, each in zip(asked, stages, strict=True)))
    order = [(d, a) for d in range(len(suite.datasets)) for a in range(len(suite.arms))]
    return [cells[place] for place in order], dict(counts) | {"peak_memory_mb": peak}


def run_group(
    suite_values: dict[str, Any], group: Group, resume: bool, advance: Advance | None = None
) -> tuple[list[CellResult], dict[str, int]]:
    """One group in this process. Takes and gives plain values, for it also runs elsewhere."""
    suite = make_suite(suite_values)
    results = []
    with StageCache(suite.cache or None, read=resume) as cache:
        for d, a in group:
            dataset, arm = suite.datasets[d], suite.arms[a]
            try:
                results.append(Cell(suite, dataset, arm, cache).run(advance or (lambda _: None)))
            except Exception as error:  # noqa: BLE001 - an arm's fault is its result; the other arms go on
                results.append(CellResult(dataset=dataset.name, arm=arm.name, error=reason(error)))
        return results, {"hits": cache.hits, "misses": cache.misses, "peak_memory_mb": round(peak_memory_mb())}


def _joblib(suite: Suite, groups: list[Group], resume: bool) -> Iterable[Any]:
    try:
        import joblib
    except ImportError:
        raise MissingExtra("joblib", "eval") from None
    values, done = suite.plain(), 0
    run = joblib.delayed(run_group)
    try:
        for result in joblib.Parallel(n_jobs=suite.workers, return_as="generator")(
            run(values, group, resume) for group in groups
        ):
            yield result
            done += 1
    except BrokenProcessPool:
        # All of the pool's work is lost with one process, and it does not say whose that was. So the groups that are
        # left go on one at a time, from what the cache holds, each with a second try: one that was never begun has died
        # of nothing yet. Whichever dies twice alone is known, the others end.
        log.warning("a worker process died; %s group(s) of arms go on one at a time", len(groups) - done)
        for group in groups[done:]:
            yield _alone(suite, group, partial(joblib.Parallel(n_jobs=2), [run(values, group, resume)]))


def _alone(suite: Suite, group: Group, attempt: Callable[[], Any]) -> Any:
    """The result of one group in a process of its own (two jobs: one would be this process), at the second try too."""
    for last in (False, True):
        try:
            (result,) = attempt()
            return result
        except BrokenProcessPool as error:
            if last:
                return _lost(suite, group, EvaluationError(_DIED.format(" ".join(str(error).split())[-80:])))
    raise AssertionError("unreachable: the second try returns")


def _dask(suite: Suite, groups: list[Group], resume: bool) -> Iterable[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingExtra("distributed", "dask") from None
    logging.getLogger("distributed").setLevel(logging.NOTSET)  # its import sets info, whatever the command line says
    if suite.scheduler:
        try:
            client = Client(suite.scheduler, timeout=_CONNECT_S)  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError, ValueError) as error:
            raise ConfigError(f"scheduler {suite.scheduler!r} does not answer ({error}); is it running?") from None
        with client:
            yield from _gather(client, suite, groups, resume)
        return
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=suite.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            # A worker that is told to end may log its last heartbeat as an error; real ones come back with the future.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield from _gather(client, suite, groups, resume)


def _gather(client: Any, suite: Suite, groups: list[Group], resume: bool) -> Iterable[Any]:
    # pure=False: the same group may have to run twice, e.g. after its cache was emptied.
    futures = [client.submit(run_group, suite.plain(), group, resume, pure=False) for group in groups]
    for group, future in zip(groups, futures, strict=True):
        try:
            yield future.result()
        except Exception as error:  # noqa: BLE001 - a worker that died takes its own arms with it, not the others'
            yield _lost(suite, group, error)


def _lost(suite: Suite, group: Group, error: Exception) -> tuple[list[CellResult], dict[str, int]]:
    """The result of a group whose process died: each of its arms failed for the same reason."""
    arms = [(suite.datasets[d].name, suite.arms[a].name) for d, a in group]
    lost = [CellResult(dataset=dataset, arm=arm, error=reason(error)) for dataset, arm in arms]
    return lost, {"hits": 0, "misses": 0, "peak_memory_mb": 0}
