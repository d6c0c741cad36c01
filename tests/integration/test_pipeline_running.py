"""What `work` does when a part of it breaks."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import smartmem
from smartmem.errors import ConfigError, StoreUnavailable
from smartmem.outbox.relay import Relay
from smartmem.workbench import Workbench
from tests.support.net import LOOPBACK, free_port, poll


@pytest.fixture
def bench(sqlite_url: str) -> Iterator[Workbench]:
    with smartmem.open(sqlite_url, embedder={"name": "mock"}, jobs={"poll_s": 0.05, "backoff_s": [0.05]}) as made:
        yield made


def test_a_relay_that_breaks_ends_the_work_with_its_error(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that went on alone would wait for ever for what nobody relays, and look healthy."""

    def broken(self: Relay) -> Any:
        raise RuntimeError("the relay has a fault")

    monkeypatch.setattr(Relay, "run_once", broken)
    with pytest.raises(RuntimeError, match="the relay has a fault"):
        bench.work(stop=threading.Event())


def test_work_serves_its_figures(bench: Workbench) -> None:
    stop, port = threading.Event(), free_port()
    working = threading.Thread(target=lambda: bench.work(stop=stop, metrics_port=port))
    working.start()

    def page() -> str:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    try:
        bench.append(user_id=1, conversation_id="c", role="user", content="I live in Leeds.")
        assert poll(
            lambda: "\nmemory_queue_depth 0.0" in page() and bench.status().vectors == {"synced": 1}, seconds=30
        )
        bench.recall(1, "Where do I live?")
        shown = page()
    finally:
        stop.set()
        working.join(20)
    for name in (
        "memory_job_success_rate ",
        "memory_outbox_depth 0.0",
        "memory_message_to_memory_seconds_bucket",
        "memory_retrieval_hit_rate",
        "memory_rag_latency_ms_bucket",
        "chat_p95_latency_delta_with_memory ",
        "memory_user_correction_rate 0.0",
        "memory_wrong_mention_rate 0.0",
        "memory_injection_count_avg",
        'memory_decision_distribution_total{operation="ADD"}',
    ):
        assert name in shown, name


def test_a_metrics_port_that_is_taken_is_told(bench: Workbench) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another"):
            bench.work(stop=threading.Event(), metrics_port=taken.getsockname()[1])


def test_a_drain_that_waits_says_for_what(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After an outage a drain sits through back-offs; whoever looks at it must see why, once."""
    whole, failures = bench.store.upsert, iter([True] * 2)

    def away(*told: Any) -> Any:
        if next(failures, False):
            raise StoreUnavailable("milvus at host: connection refused")
        return whole(*told)

    monkeypatch.setattr(bench.store, "upsert", away)
    bench.append(user_id=1, conversation_id="c", role="user", content="I live in Leeds.")
    with caplog.at_level("WARNING", logger="smartmem"):
        report = bench.drain()
    assert (report.success, report.failed) == (2, 2)
    told = [record.getMessage() for record in caplog.records if "draining" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("draining: 1 left; embed failed 1 of 6 times and is tried again in ")
    assert told[0].endswith("StoreUnavailable: milvus at host: connection refused")
