"""What `work` does when a part of it breaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import smartmem
from smartmem.outbox.relay import Relay
from smartmem.workbench import Workbench


@pytest.fixture
def bench(sqlite_url: str) -> Iterator[Workbench]:
    with smartmem.open(sqlite_url, jobs={"poll_s": 0.05}) as made:
        yield made


def test_a_relay_that_breaks_ends_the_work_with_its_error(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that went on alone would wait for ever for what nobody relays, and look healthy."""

    def broken(self: Relay) -> Any:
        raise RuntimeError("the relay has a fault")

    monkeypatch.setattr(Relay, "run_once", broken)
    with pytest.raises(RuntimeError, match="the relay has a fault"):
        bench.work(stop=threading.Event())
