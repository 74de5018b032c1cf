"""The thread that works: it looks, loads and answers, one job after the other.

The screen never waits for it. It reads what ``progress`` and ``text`` say at the moment, some times
a second, and is told by ``on_done`` when a job is over.
"""

import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smolvideo.errors import SmolVideoError
from smolvideo.progress import Cancelled, OnProgress, Progress

_SWITCH_SECONDS = 0.001
"""Python's own is 0.005; a key takes several turns, and small networks are mostly Python."""


@dataclass(frozen=True)
class Job:
    """``run`` does the work, ``done`` is told its result or error in the screen's thread.

    ``is_preemptible`` jobs are stopped when another one comes: they were done ahead of time.
    """

    name: str
    run: Callable[[OnProgress], Any]
    done: Callable[[Any, SmolVideoError | None], None]
    is_preemptible: bool = False


class JobQueue:
    """Jobs, one at a time, in their order. ``call_in_ui`` calls a function in the screen's
    thread.
    """

    def __init__(self, call_in_ui: Callable[[Callable[[], None]], None]) -> None:
        # How long the screen waits for this thread's turn to end, each time that it has work.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.progress: Progress | None = None
        self._tell = call_in_ui
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._now: Job | None = None
        self._waiting = 0
        self._stopping = False
        # A daemon: whoever leaves does not wait for a network that reads.
        self._thread = threading.Thread(target=self._run, name="chat work", daemon=True)
        self._thread.start()

    @property
    def current_job(self) -> Job | None:
        """The job that runs."""
        return self._now

    @property
    def waiting(self) -> int:
        """How many jobs come after it."""
        return self._waiting

    def add(self, job: Job, *, preempt: bool = False) -> None:
        """Do ``job`` after the others; ``preempt`` stops one that gives way."""
        with self._lock:
            self._waiting += 1
            if preempt and self._now is not None and self._now.is_preemptible:
                self._stopping = True
        self._jobs.put(job)

    def stop(self) -> bool:
        """End the job that runs, between two steps; False where there is none."""
        with self._lock:
            self._stopping = self._now is not None
            return self._stopping

    def end(self) -> None:
        """Begin no further job."""
        self.stop()
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            with self._lock:
                self._now, self._stopping = job, False
                self._waiting -= 1
            result, error = None, None
            try:
                result = job.run(self._on_progress)
            except Cancelled:
                error = SmolVideoError("stopped")
            except SmolVideoError as failed:
                error = failed
            except Exception as failed:
                # A fault of ours is shown like any other, and the conversation goes on.
                kind = type(failed).__name__
                error = SmolVideoError(f"unexpected error: {kind}: {failed}")
                error.__cause__ = failed
            with self._lock:
                self._now, self.progress = None, None
            self._tell(_call(job.done, result, error))

    def _on_progress(self, progress: Progress) -> None:
        self.progress = progress
        if self._stopping:
            raise Cancelled


def _call(
    done: Callable[[Any, SmolVideoError | None], None], result: Any, error: SmolVideoError | None
) -> Callable[[], None]:
    return lambda: done(result, error)
