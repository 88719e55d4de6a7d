"""What Prometheus reads at `/metrics`; a registry of the server's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters, and histograms in seconds."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("tiffin_requests", "Requests by route and status.", ["route", "code"], registry=own)
        words = "Seconds of a request by stage: prepare, queue, run."
        self.stages = Histogram("tiffin_stage_seconds", words, ["model", "stage"], buckets=_SECONDS, registry=own)
        words = "Rows of the run that answered."
        self.batch = Histogram("tiffin_batch_rows", words, ["model"], buckets=_ROWS, registry=own)
        words = "Requests that are admitted and not yet answered."
        self.inside = Gauge("tiffin_requests_inside", words, ["model"], registry=own)
        words = "Requests refused because the queue was full."
        self.refused = Counter("tiffin_refused", words, ["model"], registry=own)

    def text(self) -> bytes:
        """In Prometheus' exposition format."""
        return generate_latest(self._registry)
