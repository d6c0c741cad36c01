"""One room for logs and metrics. Everything above reports here; nothing here knows who reports.

Counts and times are kept in the process, cheaply and without any package; `serve_metrics` shows them to Prometheus
(extra `metrics`). Names are those of the specification; rates are computed when somebody asks.
"""

from __future__ import annotations

import bisect
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from smartmem.errors import ConfigError, MissingExtra

log = logging.getLogger("smartmem")

# Seconds. From a cache hit to a job that waited through all its back-offs.
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BUCKETS_MS = tuple(1000 * edge for edge in BUCKETS)

Labels = tuple[tuple[str, str], ...]

JOBS = "memory_jobs_total"  # {to: claimed|success|failed|dead|released|lost}
EVENTS = "memory_outbox_events_total"  # {to: claimed|consumed|failed|dead|lost}
LATENCY = "memory_message_to_memory_seconds"
SUCCESS_RATE = "memory_job_success_rate"
RETRY_RATE = "memory_job_retry_rate"
DECISIONS = "memory_decision_distribution"  # {operation: ADD|UPDATE|DELETE|NONE}
DECISION_FALLBACKS = "memory_decision_fallbacks"
RECALLS = "memory_recalls"  # {result: hit|miss}
RECALL_FALLBACKS = "memory_rag_fallbacks"
RECALL_MS = "memory_rag_latency_ms"
INJECTED = "memory_injected_items"
# Milliseconds, as RECALL_MS. A chat with memory does what one without does, and a recall before it: so what memory adds
# to the answer's time is the recall's.
CHAT_DELTA = "chat_p95_latency_delta_with_memory"
DEDUP_DROPS = "memory_retrieve_dedup_drop_count"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure. `kind` is counter, gauge or histogram; a histogram has cumulative `buckets`, sum in `value`."""

    name: str
    kind: str
    labels: dict[str, str]
    value: float
    buckets: tuple[tuple[str, float], ...] = ()


class Metrics:
    """Counters, histograms and gauges of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, Labels], float] = {}
        self._times: dict[tuple[str, Labels], tuple[list[int], float]] = {}
        self._gauges: dict[str, Callable[[], float | None]] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter; adding nothing makes no counter."""
        if value:
            key = (name, tuple(sorted(labels.items())))
            with self._lock:
                self._counts[key] = self._counts.get(key, 0) + value

    def observe(self, name: str, *seconds: float, times: int = 1, **labels: str) -> None:
        """Add durations to a histogram, `times` over; in milliseconds where the name ends in `_ms`."""
        if not seconds:
            return
        key, edges = (name, tuple(sorted(labels.items()))), _edges(name)
        with self._lock:
            cells, total = self._times.get(key) or ([0] * (len(BUCKETS) + 1), 0.0)
            for each in seconds:
                cells[bisect.bisect_left(edges, each)] += times
            self._times[key] = (cells, total + sum(seconds) * times)

    def gauge(self, name: str, read: Callable[[], float | None]) -> None:
        """Ask `read` whenever somebody looks; None means that there is nothing to show."""
        with self._lock:
            self._gauges[name] = read

    def total(self, name: str, **labels: str) -> float:
        """The sum of a counter over all label sets that contain `labels`."""
        wanted = set(labels.items())
        with self._lock:
            return sum(value for (known, has), value in self._counts.items() if known == name and wanted <= set(has))

    def samples(self) -> Iterator[Sample]:
        """All figures now, the rates of the jobs among them."""
        with self._lock:
            counts = dict(self._counts)
            times = {key: (list(cells), total) for key, (cells, total) in self._times.items()}
            gauges = dict(self._gauges)
        for (name, labels), value in sorted(counts.items()):
            yield Sample(name=name, kind="counter", labels=dict(labels), value=value)
        for (name, labels), (cells, total) in sorted(times.items()):
            so_far, buckets = 0, []
            for edge, cell in zip([*map(str, _edges(name)), "+Inf"], cells, strict=True):
                so_far += cell
                buckets.append((edge, float(so_far)))
            yield Sample(name=name, kind="histogram", labels=dict(labels), value=total, buckets=tuple(buckets))
        for (name, _), (cells, _) in times.items():
            if name == RECALL_MS:
                yield Sample(name=CHAT_DELTA, kind="gauge", labels={}, value=_quantile(0.95, cells, _edges(name)))
        for name, value in self._rates():
            yield Sample(name=name, kind="gauge", labels={}, value=value)
        for name, read in sorted(gauges.items()):
            shown = read()
            if shown is not None:
                yield Sample(name=name, kind="gauge", labels={}, value=shown)

    def _rates(self) -> Iterator[tuple[str, float]]:
        good, again, dead = (self.total(JOBS, to=state) for state in ("success", "failed", "dead"))
        if good + dead:
            yield SUCCESS_RATE, good / (good + dead)
        if good + again + dead:
            yield RETRY_RATE, again / (good + again + dead)
        if decided := self.total(DECISIONS):
            yield "memory_decision_fallback_rate", self.total(DECISION_FALLBACKS) / decided
        if asked := self.total(RECALLS):
            yield "memory_retrieval_hit_rate", self.total(RECALLS, result="hit") / asked
            yield "memory_rag_fallback_rate", self.total(RECALL_FALLBACKS) / asked
            yield "memory_injection_count_avg", self.total(INJECTED) / asked


def _edges(name: str) -> tuple[float, ...]:
    return BUCKETS_MS if name.endswith("_ms") else BUCKETS


def _quantile(share: float, cells: list[int], edges: tuple[float, ...]) -> float:
    """A quantile of a histogram, taken as even within its cell; the last cell has no end, so its beginning stands."""
    wanted, so_far, low = share * sum(cells), 0, 0.0
    for cell, high in zip(cells, edges, strict=False):
        if cell and so_far + cell >= wanted:
            return low + (high - low) * (wanted - so_far) / cell
        so_far, low = so_far + cell, high
    return low


metrics = Metrics()


class Traces:
    """OpenTelemetry spans of messages, events and jobs (extra `metrics`); nothing, and no cost, until `enable`.

    A row's trace_id is the trace: the same number, where it is a UUID or 32 hexadecimal digits, else drawn from its
    SHA-256. So the append of a message, its event, its extract job and the embed job that writes its vector are one
    trace, in whatever processes they ran.
    """

    def __init__(self) -> None:
        self._tracer: Any = None

    def enable(self, provider: Any = None) -> None:
        """Send spans to a tracer provider, by default the process's own. Raises `MissingExtra` without the package."""
        try:
            from opentelemetry import trace
        except ModuleNotFoundError:
            raise MissingExtra("opentelemetry", "metrics") from None
        self._tracer = trace.get_tracer("smartmem", tracer_provider=provider)

    @property
    def enabled(self) -> bool:
        """Whether spans go anywhere: hot paths ask before they gather what a span would tell."""
        return self._tracer is not None

    def disable(self) -> None:
        """No more spans."""
        self._tracer = None

    def record(self, name: str, trace_id: str, begun_ns: int, *, error: str = "", **attributes: str | int) -> None:
        """A span that ends now; `begun_ns` is `time.time_ns()` of its beginning."""
        if self._tracer is None:
            return
        from opentelemetry import trace

        number = otel_trace_id(trace_id)
        # The trace has no root span of ours: who appends and who works never meet. Its id stands for one.
        parent = trace.SpanContext(number, number & 0xFFFF_FFFF_FFFF_FFFF or 1, True, trace.TraceFlags(1))
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
        told = {"smartmem.trace_id": trace_id} | {f"smartmem.{key}": value for key, value in attributes.items()}
        span = self._tracer.start_span(name, context=context, start_time=begun_ns, attributes=told)
        if error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, error))
        span.end()


def otel_trace_id(trace_id: str) -> int:
    """A trace_id as OpenTelemetry's 128 bits, never 0."""
    digits = trace_id.replace("-", "").lower()
    if len(digits) != 32 or set(digits) - set("0123456789abcdef"):
        digits = hashlib.sha256(trace_id.encode()).hexdigest()[:32]
    return int(digits, 16) or 1


traces = Traces()


def serve_metrics(port: int, source: Metrics = metrics, *, host: str = "127.0.0.1") -> Callable[[], None]:
    """Serve the figures for Prometheus on `http://host:port/metrics`; returns what stops it.

    On loopback unless told otherwise: the figures name no user, but how busy a site is, is its own business. Raises
    `MissingExtra` without prometheus_client, `ConfigError` when the port is taken.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ModuleNotFoundError:
        raise MissingExtra("prometheus-client", "metrics") from None
    registry = CollectorRegistry()
    registry.register(_Collector(source))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"metrics port {port} on {host} cannot be opened ({error}); choose another") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class _Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, source: Metrics) -> None:
        self._source = source

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        families: dict[str, Any] = {}
        for sample in self._source.samples():
            names = list(sample.labels)
            if sample.kind == "histogram":
                kind: Any = HistogramMetricFamily
            else:
                kind = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
            family = families.setdefault(sample.name, kind(sample.name, sample.name.replace("_", " "), labels=names))
            values = list(sample.labels.values())
            if sample.kind == "histogram":
                family.add_metric(values, buckets=list(sample.buckets), sum_value=sample.value)
            else:
                family.add_metric(values, sample.value)
        yield from families.values()

    def describe(self) -> list[Any]:
        return []  # else registering would ask the database for its gauges
