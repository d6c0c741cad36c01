"""What each stage of one retrieval did, recorded only while somebody asks.

with tracing() as stages:
    retriever.retrieve(query, 10)
stages[0].name, stages[0].ms, stages[0].hits
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from smartmem.rag.types import Hit, Stage

_stages: ContextVar[list[Stage] | None] = ContextVar("stages", default=None)


class Recorder:
    """Takes what a stage hands on; the last word counts."""

    def __init__(self) -> None:
        self.hits: Sequence[Hit] = ()
        self.note = ""


@contextmanager
def tracing() -> Iterator[list[Stage]]:
    """Collect the stages of everything that runs inside, in the order in which they end."""
    collected: list[Stage] = []
    token = _stages.set(collected)
    try:
        yield collected
    finally:
        _stages.reset(token)


@contextmanager
def stage(name: str) -> Iterator[Recorder]:
    """Time a stage. A stage that raises is recorded too, with the error as its note."""
    recorder = Recorder()
    collected = _stages.get()
    started = time.perf_counter()
    try:
        yield recorder
    except Exception as error:
        recorder.note = f"{type(error).__name__}: {error}"
        raise
    finally:
        if collected is not None:
            ms = (time.perf_counter() - started) * 1e3
            collected.append(Stage(name=name, ms=ms, hits=tuple(recorder.hits), note=recorder.note))
