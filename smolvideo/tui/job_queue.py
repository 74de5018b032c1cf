"""Worker thread of the chat: runs decoding, loading and answering, one job at a time.

The UI thread never blocks on it: it polls ``JobQueue.progress`` with a timer, and ``Job.done`` is
called on the UI thread when a job has ended.
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
"""Thread switch interval; Python's default is 0.005. A key press needs the GIL several times, and
small networks hold it most of the time."""


@dataclass(frozen=True)
class Job:
    """``run`` does the work, ``done`` receives its result or error on the UI thread.

    ``is_preemptible`` jobs (prefill before a question) are stopped by an urgent job.
    """

    name: str
    run: Callable[[OnProgress], Any]
    done: Callable[[Any, SmolVideoError | None], None]
    is_preemptible: bool = False


class JobQueue:
    """FIFO queue of jobs for one worker thread; ``call_in_ui`` runs a function on the UI thread."""

    def __init__(self, call_in_ui: Callable[[Callable[[], None]], None]) -> None:
        # The UI thread waits this long for the GIL each time it has work.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.progress: Progress | None = None
        self._tell = call_in_ui
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._now: Job | None = None
        self._waiting = 0
        self._stopping = False
        # A daemon: leaving the chat does not wait for a running prefill.
        self._thread = threading.Thread(target=self._run, name="chat work", daemon=True)
        self._thread.start()

    @property
    def current_job(self) -> Job | None:
        """The running job."""
        return self._now

    @property
    def waiting(self) -> int:
        """Number of jobs after it."""
        return self._waiting

    def add(self, job: Job, *, preempt: bool = False) -> None:
        """Queue ``job``; ``preempt`` stops a running preemptible job."""
        with self._lock:
            self._waiting += 1
            if preempt and self._now is not None and self._now.is_preemptible:
                self._stopping = True
        self._jobs.put(job)

    def stop(self) -> bool:
        """Stop the running job at its next progress report; return False if there is none."""
        with self._lock:
            self._stopping = self._now is not None
            return self._stopping

    def end(self) -> None:
        """Stop the running job and end the worker thread."""
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
                # An internal error is shown like any other, and the conversation continues.
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
