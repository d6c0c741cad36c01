"""Counters, times and rates, and what Prometheus sees of them."""

from __future__ import annotations

import urllib.request

import pytest

from smartmem.errors import MissingExtra
from smartmem.telemetry import CHAT_DELTA, JOBS, LATENCY, RECALL_MS, RETRY_RATE, SUCCESS_RATE, Metrics, serve_metrics
from tests.support.net import LOOPBACK, free_port


@pytest.fixture
def figures() -> Metrics:
    made = Metrics()
    made.count(JOBS, 8, to="success")
    made.count(JOBS, 4, to="failed")
    made.count(JOBS, 2, to="dead")
    made.count(JOBS, 0, to="lost")
    made.observe(LATENCY, 0.2)
    made.observe(LATENCY, 400)
    made.gauge("memory_queue_depth", lambda: 7)
    made.gauge("memory_oldest_job_age_seconds", lambda: None)
    return made


def test_rates_come_from_the_counters(figures: Metrics) -> None:
    shown = {sample.name: sample.value for sample in figures.samples() if sample.kind == "gauge"}
    assert shown == {SUCCESS_RATE: 0.8, RETRY_RATE: pytest.approx(4 / 14), "memory_queue_depth": 7}
    assert figures.total(JOBS) == 14
    assert list(Metrics().samples()) == []


def test_a_histogram_is_cumulative(figures: Metrics) -> None:
    (times,) = [sample for sample in figures.samples() if sample.kind == "histogram"]
    buckets = dict(times.buckets)
    assert (buckets["0.1"], buckets["0.25"], buckets["300.0"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert times.value == pytest.approx(400.2)


def test_what_memory_adds_to_a_chat_is_the_recalls_95th_percentile() -> None:
    made = Metrics()
    made.observe(RECALL_MS, 30, times=90)  # in the cell from 10 to 50 ms
    made.observe(RECALL_MS, 80, times=10)  # from 50 to 100 ms
    shown = {sample.name: sample.value for sample in made.samples() if sample.kind == "gauge"}
    assert shown == {CHAT_DELTA: pytest.approx(75)}  # the 5th of the 10 in that cell
    made.observe(RECALL_MS, 10_000_000, times=1_000)
    assert [s.value for s in made.samples() if s.name == CHAT_DELTA] == [300_000]  # beyond the last edge: its beginning


def test_prometheus_reads_them(figures: Metrics) -> None:
    port = free_port()
    stop = serve_metrics(port, figures)
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    finally:
        stop()
    assert 'memory_jobs_total{to="success"} 8.0' in page
    assert "memory_job_success_rate 0.8" in page
    assert 'memory_message_to_memory_seconds_bucket{le="+Inf"} 2.0' in page
    assert "memory_queue_depth 7.0" in page
    assert "oldest" not in page


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"smartmem\[metrics\]"):
        serve_metrics(1)
