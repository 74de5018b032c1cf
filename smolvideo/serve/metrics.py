"""Counters of the server, as Prometheus reads them at ``/metrics``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smolvideo.serve.worker import EngineWorker


class Metrics:
    """Counters in a registry of their own, so that several servers in a process are apart.

    https://prometheus.io/docs/practices/naming/
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

        # Without a second line for each counter, with the time of its first use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"smolvideo_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"smolvideo_{name}", text, registry=self.registry)

        self._requests = counter("requests", "Requests by path and status.", "path", "status")
        self._prompt = counter("prompt_tokens", "Tokens of prompts.")
        self._cached = counter("cached_tokens", "Tokens of prompts taken from a session.")
        self._answer = counter("answer_tokens", "Generated tokens.")
        self._frames = counter("frames", "Images in prompts.")
        self._cached_frames = counter("cached_frames", "Images whose features a session held.")
        self._seconds = counter("stage_seconds", "Seconds per stage of answers.", "stage")
        self._cancelled = counter("cancelled", "Requests whose client went away.")
        self._lookups = counter("decoded_media", "Media whose frames were in memory.", "cached")
        self._queue = gauge("queue_depth", "Requests that wait for the engine.")
        self._in_flight = gauge("requests_in_flight", "Requests that are not answered yet.")
        self._ready = gauge("ready", "1 once the model is loaded.")

    def count_request(self, path: str, status: int) -> None:
        """Count a finished request; ``path`` is one of the server's own."""
        self._requests.labels(path, str(status)).inc()

    def count_cancelled(self) -> None:
        """Count a request whose client went away."""
        self._cancelled.inc()

    def count_frames_lookup(self, cached: bool, has_media: bool) -> None:
        """Count media whose decoded frames were in memory, or were not."""
        if has_media:
            self._lookups.labels("yes" if cached else "no").inc()

    def count_answer(
        self,
        *,
        prompt_tokens: int,
        cached_tokens: int,
        answer_tokens: int,
        frames: int,
        cached_frames: int,
    ) -> None:
        """Count the tokens and images of a finished answer."""
        self._prompt.inc(prompt_tokens)
        self._cached.inc(cached_tokens)
        self._answer.inc(answer_tokens)
        self._frames.inc(frames)
        self._cached_frames.inc(cached_frames)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add the time of one stage."""
        self._seconds.labels(stage).inc(seconds)

    def to_text(self, worker: "EngineWorker") -> bytes:
        """Return all metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        self._queue.set(worker.num_waiting)
        self._in_flight.set(worker.num_admitted)
        self._ready.set(worker.is_ready)
        return generate_latest(self.registry)
