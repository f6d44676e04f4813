"""Prometheus metrics. Labels are of a fixed set: nothing a caller sends ends up in one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The gateway's own numbers; one registry per gateway, so that tests and embedded servers do not share any."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "kernelgate_http_requests", "HTTP requests answered", ["method", "handler", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "kernelgate_http_request_seconds", "Time to answer", ["handler"], buckets=_BUCKETS, registry=self.registry
        )
        self.executions = Counter(
            "kernelgate_executions", "Executions that ended while this gateway watched", ["language", "status"], registry=self.registry
        )
        self.execution_seconds = Histogram(
            "kernelgate_execution_seconds", "Time an execution took in its kernel", ["language"], buckets=_BUCKETS, registry=self.registry
        )
        self.sessions = Gauge("kernelgate_sessions", "Sessions", ["state"], registry=self.registry)
        self.created = Gauge("kernelgate_sessions_created", "Sessions made since this gateway started", registry=self.registry)
        self.from_pool = Gauge("kernelgate_sessions_from_pool", "Of these, taken from the pool", registry=self.registry)
        self.culled = Gauge("kernelgate_sessions_culled", "Ended for idleness or age", registry=self.registry)
        self.lost = Gauge("kernelgate_sessions_lost", "Ended unexpectedly", registry=self.registry)
        self.streams = Gauge("kernelgate_streams", "Event streams open", registry=self.registry)

    def request(self, method: str, handler: str, status: int, seconds: float) -> None:
        known = method if method in ("GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "HEAD") else "other"
        self._requests.labels(known, handler, str(status)).inc()
        self._seconds.labels(handler).observe(seconds)

    def render(self) -> bytes:
        return generate_latest(self.registry)
