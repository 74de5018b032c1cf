"""The one thread that owns the engine, its bounded queue, and its sessions.

Engine and sessions are for one thread; HTTP is asyncio's. A job is admitted before its body is
read, and refused where as many wait already as may. Its events (pieces of text, the finished
answer, an error) are called back from the thread. A cancelled job stops before the next frame or
token, and one that still waits never begins.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.progress import Cancelled, OnProgress, Progress
from smolvideo.prompt import Prompt
from smolvideo.serve.api_errors import busy, loading

FrameDigests = tuple[str, ...]
"""The digest of the pixels of each medium of a prompt, in order: the key of its session."""


@dataclass(frozen=True)
class SessionUse:
    """A session for a prompt, and how many of its images and tokens the session holds already.

    ``session`` is the engine itself where that has none.
    """

    session: Session | Engine
    cached_images: int = 0
    cached_tokens: int = 0


class SessionCache:
    """The sessions of the last prompts, by the pixels of their media; the least recently used goes
    first.

    Neither names nor addresses play a part: two clients that send different videos under one name
    never share one.
    """

    def __init__(self, engine: Engine, max_sessions: int) -> None:
        self._engine = engine
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[FrameDigests, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, digests: FrameDigests, prompt: Prompt) -> SessionUse:
        """Return the session that holds the same media, or the most of them from the first on, as
        in a conversation that gets another video; a new one if none does."""
        if not isinstance(self._engine, SessionEngine):
            return SessionUse(self._engine)
        shared = {known: _common(known, digests) for known in self._sessions}
        best = max(shared, key=lambda known: (shared[known], known == digests), default=None)
        if not digests:  # text alone: one session for all of it
            best = () if () in self._sessions else None
        elif best is not None and not shared[best]:
            best = None
        if best is None:
            session = self._engine.open_session()
        elif shared[best] == len(best):
            session = self._sessions.pop(best)
        else:  # the other has further media, which its next question needs
            session = self._sessions[best].fork()
        self._sessions.pop(digests, None)
        self._sessions[digests] = session
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)
        return SessionUse(session, *session.cached_prefix(prompt))

    def clear(self) -> None:
        """Free all sessions."""
        self._sessions.clear()


def _common(one: FrameDigests, other: FrameDigests) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


class Job:
    """Work for the engine's thread, on behalf of one client.

    ``on_end`` is called in that thread when the work is done, with the error it raised, or None;
    with ``Cancelled`` for a job that was cancelled.
    """

    def __init__(
        self,
        work: Callable[["Job", "EngineWorker"], None],
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        self.work = work
        self.on_end = on_end
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """Stop the work before its next frame or token. May be called from any thread."""
        self.cancelled.set()

    def check(self, _: Progress | None = None) -> None:
        """Raise Cancelled once the job is cancelled; an ``OnProgress`` callback."""
        if self.cancelled.is_set():
            raise Cancelled


class EngineWorker:
    """The engine's thread. ``load`` is called in it, and its failure is kept in ``error``.

    ``on_ready`` is called in the thread once the engine is loaded, or has failed to.
    """

    def __init__(
        self,
        load: Callable[[OnProgress], Engine],
        *,
        max_waiting: int,
        max_sessions: int,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.max_waiting = max_waiting
        self.error: BaseException | None = None
        self._load = load
        self._max_sessions = max_sessions
        self._on_ready = on_ready
        self._engine: Engine | None = None
        self._sessions: SessionCache | None = None
        self._jobs: deque[Job] = deque()
        self._admitted = 0
        self._running: Job | None = None
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="smolvideo-engine", daemon=True)

    @property
    def engine(self) -> Engine:
        """The engine. Raises ApiError 503 until it is loaded."""
        if self._engine is None:
            raise loading()
        return self._engine

    @property
    def sessions(self) -> SessionCache:
        """The sessions; for jobs, in the engine's thread."""
        assert self._sessions is not None
        return self._sessions

    @property
    def is_ready(self) -> bool:
        """Whether the engine is loaded."""
        return self._engine is not None

    @property
    def num_admitted(self) -> int:
        """Requests that are being read, prepared, waiting or answered."""
        return self._admitted

    @property
    def num_waiting(self) -> int:
        """Jobs that wait for the engine."""
        return len(self._jobs)

    def start(self) -> None:
        """Start the thread, which loads the engine first."""
        self._thread.start()

    def admit(self) -> "Admission":
        """Reserve a place for one request, until the context manager ends.

        Raises ApiError 503 where ``max_waiting`` requests wait besides the one that is answered,
        and while the model is loaded.
        """
        if not self.is_ready:
            raise loading()
        with self._changed:
            if self._admitted > self.max_waiting:
                raise busy(self._admitted - 1)
            self._admitted += 1
        return Admission(self)

    def leave(self) -> None:
        """Give back a place; see ``Admission``."""
        with self._changed:
            self._admitted -= 1

    def submit(self, job: Job) -> None:
        """Queue a job of an admitted request."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Cancel a job; one that waits leaves the queue at once."""
        job.cancel()
        with self._changed:
            if job not in self._jobs:
                return
            self._jobs.remove(job)
        job.on_end(Cancelled())

    def close(self) -> None:
        """Cancel all jobs, and free the engine once the running one has stopped."""
        self._closing.set()
        with self._changed:
            for job in (*self._jobs, *filter(None, [self._running])):
                job.cancel()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._engine = self._load(self._check_closing)
            self._sessions = SessionCache(self._engine, self._max_sessions)
        except BaseException as error:
            self.error = error
            return
        finally:
            self._on_ready()
        while (job := self._next()) is not None:
            failure = self._failure_of(job)
            self._running = None
            job.on_end(failure)
            del job, failure
        self._sessions.clear()
        self._engine.close()

    def _failure_of(self, job: Job) -> BaseException | None:
        """Do the work of a job; return what it raised: the thread outlives every failure."""
        try:
            job.check()
            job.work(job, self)
        except BaseException as error:
            return error
        return None

    def _check_closing(self, _: Progress) -> None:
        if self._closing.is_set():
            raise Cancelled

    def _next(self) -> Job | None:
        with self._changed:
            while not self._jobs:
                if self._closing.is_set():
                    return None
                self._changed.wait()
            self._running = self._jobs.popleft()
            return self._running


class Admission:
    """The place of one request; a context manager that gives it back."""

    def __init__(self, worker: EngineWorker) -> None:
        self._worker = worker

    def __enter__(self) -> "Admission":
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.leave()
