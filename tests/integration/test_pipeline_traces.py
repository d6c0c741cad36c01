"""One OpenTelemetry trace from a message to its vector row, and no cost while nobody asked for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

import smartmem
from smartmem.db.tables import memory_items
from smartmem.errors import MissingExtra
from smartmem.telemetry import Traces, otel_trace_id, traces


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.enable(provider)
    yield exporter
    traces.disable()
    provider.shutdown()


def test_a_message_is_one_trace_to_its_vector(sqlite_url: str, spans: InMemorySpanExporter) -> None:
    with smartmem.open(sqlite_url, embedder={"name": "mock"}) as bench:
        for user in (1, 2):
            bench.append(user_id=user, conversation_id=f"c{user}", role="user", content="I live in Leeds.")
        bench.drain()
        with bench.db.read() as conn:
            items = conn.execute(select(memory_items.c.trace_id, memory_items.c.vector_status)).all()
    told: dict[int, list[str]] = {}
    for span in spans.get_finished_spans():
        told.setdefault(span.context.trace_id, []).append(span.name)
        assert span.start_time <= span.end_time
    chain = ["append message", "event memory.extract.requested", "job extract", "job embed"]
    assert told == {otel_trace_id(item.trace_id): chain for item in items}
    assert [item.vector_status for item in items] == ["synced"] * 2


def test_a_failed_attempt_is_an_error_in_the_trace(spans: InMemorySpanExporter) -> None:
    traces.record("job extract", "t", 1, error="ValueError: no", attempt=2)
    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.status.description) == (False, "ValueError: no")
    assert dict(span.attributes or {}) == {"smartmem.trace_id": "t", "smartmem.attempt": 2}


def test_trace_ids_are_128_bits_and_never_none() -> None:
    assert otel_trace_id("01890a5d-ac96-774b-bcce-b302099a8057") == 0x01890A5DAC96774BBCCEB302099A8057
    assert otel_trace_id("0" * 32) == 1
    assert 0 < otel_trace_id("of the client's own making") < 2**128


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match=r"smartmem\[metrics\]"):
        Traces().enable()
