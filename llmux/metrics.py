"""Prometheus: counters are a projection of the events, gauges read what is there when they are scraped."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmux.events import (
    ActorRestarted,
    AttemptFailed,
    AttemptSucceeded,
    ContentForgotten,
    RecordedEvent,
    RequestAccepted,
    RequestCompleted,
    RequestFailed,
)

cast("Callable[[], None]", disable_created_metrics)()  # a timestamp beside every counter, which nobody asks for

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
OTHER = "other"

M = TypeVar("M", Counter, Histogram)


class Metrics:
    """All metrics of one gateway, in a registry of their own.

    `models` are the label values that `model` may have; anything else counts as "other", so that labels stay bounded.
    """

    def __init__(self, models: frozenset[str]):
        self._models = models
        self._registry = registry = CollectorRegistry()
        self._children: dict[tuple[Counter | Histogram, tuple[str, ...]], Counter | Histogram] = {}
        self._requests = Counter(
            "llmux_requests_total",
            "Requests that ended, by how they ended",
            ("provider", "model", "status"),
            registry=registry,
        )
        self._latency = Histogram(
            "llmux_latency_seconds",
            "From acceptance to the whole answer",
            ("provider",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._first = Histogram(
            "llmux_time_to_first_chunk_seconds",
            "From the start of an attempt to its first chunk",
            ("provider",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._tokens = Counter(
            "llmux_tokens_total", "Tokens as the providers count them", ("provider", "type"), registry=registry
        )
        self._hits = Counter("llmux_cache_hits_total", "Requests that were answered from the cache", registry=registry)
        self._misses = Counter(
            "llmux_cache_misses_total", "Requests that the cache had no answer for", registry=registry
        )
        self._errors = Counter(
            "llmux_errors_total", "Attempts that failed, by kind", ("provider", "type"), registry=registry
        )
        self._rejected = Counter(
            "llmux_rejected_total",
            "Requests refused at the door, which make no event",
            ("endpoint", "code"),
            registry=registry,
        )
        self._events = Counter("llmux_events_total", "Events recorded since the start", registry=registry)
        self._restarts = Counter(
            "llmux_actor_restarts_total", "Actors started again after a crash", ("actor",), registry=registry
        )
        self._content_kept = Counter(
            "llmux_content_kept_total", "Requests whose text was kept, outside the log", registry=registry
        )
        self._content_lost = Counter(
            "llmux_content_lost_total",
            "Requests whose text was to be kept and could not be, by reason",
            ("reason",),
            registry=registry,
        )
        self._content_forgotten = Counter(
            "llmux_content_forgotten_total", "Requests whose kept text was deleted", registry=registry
        )
        self._active = Gauge("llmux_active_requests", "Requests without their terminal fact", registry=registry)
        self._uptime = Gauge("llmux_uptime_seconds", "Seconds since the gateway started", registry=registry)
        self._position = Gauge("llmux_log_position", "Position of the last event in the log", registry=registry)
        self._log_bytes = Gauge("llmux_log_bytes", "Room that the log takes", registry=registry)
        self._log_bytes_max = Gauge("llmux_log_bytes_max", "Room that it may take (0: no limit)", registry=registry)
        self._witnessed = Gauge(
            "llmux_log_witnessed_position", "Position up to which the log is witnessed outside it", registry=registry
        )

    def read(self, *, active: Callable[[], int], uptime_s: Callable[[], float], position: Callable[[], int]) -> None:
        """Says where the gauges read from."""
        self._active.set_function(active)
        self._uptime.set_function(uptime_s)
        self._position.set_function(position)

    def read_log(
        self, *, used_bytes: Callable[[], int], bytes_max: Callable[[], int], witnessed: Callable[[], int]
    ) -> None:
        """Says where the gauges of the log read from."""
        self._log_bytes.set_function(used_bytes)
        self._log_bytes_max.set_function(bytes_max)
        self._witnessed.set_function(witnessed)

    def read_workers(self, counts: Callable[[], Iterable[tuple[str, str, str, int]]]) -> None:
        """Says where the gauge of the workers reads from: (provider, account, state, how many), all of them configured names."""
        self._registry.register(_Workers(counts))

    def render(self) -> bytes:
        """Everything in the Prometheus text format 0.0.4."""
        return generate_latest(self._registry)

    def rejected(self, endpoint: str, code: str) -> None:
        """A request was refused at the door. `endpoint` is a route template or "unknown", never a path from the wire."""
        self._rejected.labels(endpoint, code).inc()

    def content_kept(self, texts: int) -> None:
        """The text of so many requests was kept."""
        self._content_kept.inc(texts)

    def content_lost(self, reason: str, texts: int) -> None:
        """The text of so many requests could not be kept. `reason` is a word of ours."""
        self._content_lost.labels(reason).inc(texts)

    def observe(self, recorded: Sequence[RecordedEvent]) -> None:
        """Counts what was recorded."""
        for event in recorded:
            if event.type in _COUNTED:
                self._count(event)
        self._events.inc(len(recorded))

    def _model(self, model: str) -> str:
        return model if model in self._models else OTHER

    def _child(self, metric: M, *labels: str) -> M:
        """The metric with these labels. (The library's own way to it takes longer than folding the event.)"""
        child = self._children.get((metric, labels))
        if child is None:
            child = self._children[metric, labels] = metric.labels(*labels)
        return cast("M", child)

    def _count(self, event: RecordedEvent) -> None:
        match event.fact:
            case RequestAccepted() as fact:
                if fact.cache == "hit":
                    self._hits.inc()
                elif fact.cache == "miss":
                    self._misses.inc()
            case RequestCompleted() as fact:
                self._child(self._requests, fact.provider, self._model(fact.model), "success").inc()
                self._child(self._latency, fact.provider).observe(fact.duration_ms / 1000)
            case RequestFailed() as fact:
                self._child(self._requests, fact.provider, self._model(fact.model), "error").inc()
            case AttemptSucceeded() as fact:
                self._child(self._first, fact.provider).observe(fact.first_chunk_ms / 1000)
                self._child(self._tokens, fact.provider, "prompt").inc(fact.usage.input_tokens)
                self._child(self._tokens, fact.provider, "completion").inc(fact.usage.output_tokens)
            case AttemptFailed() as fact:
                self._child(self._errors, fact.provider, fact.kind).inc()
            case ContentForgotten() as fact:
                self._content_forgotten.inc(fact.answers)
            case ActorRestarted() as fact:
                self._child(self._restarts, fact.actor).inc()
            case _:
                self._child(self._requests, "", OTHER, "cancelled").inc()


class _Workers(Collector):
    """A gauge whose values are asked for together, when it is scraped."""

    def __init__(self, counts: Callable[[], Iterable[tuple[str, str, str, int]]]):
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        workers = GaugeMetricFamily(
            "llmux_workers", "Provider processes or connections, by state", labels=("provider", "account", "state")
        )
        for provider, account, state, count in self._counts():
            workers.add_metric((provider, account, state), count)
        yield workers


_COUNTED = frozenset(
    {
        "RequestAccepted",
        "RequestCompleted",
        "RequestFailed",
        "RequestCancelled",
        "RequestAbandoned",
        "AttemptSucceeded",
        "AttemptFailed",
        "ActorRestarted",
        "ContentForgotten",
    }
)
