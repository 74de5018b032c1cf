"""Background loading of the engine, in parallel with decoding."""

import threading
from collections.abc import Callable

from smolvideo.cli.cache import open_feature_cache
from smolvideo.conversation import Settings
from smolvideo.engines import Engine
from smolvideo.progress import OnProgress, Progress


def load_engine_for(settings: Settings, on_progress: OnProgress) -> Engine:
    """Load the engine of a conversation. Raises as ``EngineSpec.load`` does."""
    return settings.spec.load(cache=open_feature_cache(settings.engine), on_progress=on_progress)


_LOOK_AGAIN_SECONDS = 0.2
"""Timeout of each wait: Windows delivers Ctrl-C only between two of them."""


class BackgroundEngine:
    """An engine that loads in a background thread; ``result`` waits for it.

    The thread is a daemon, so that Ctrl-C does not wait for weights.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._error: Exception | None = None

    def begin(self) -> None:
        """Start loading, unless it has started already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="load engine", daemon=True)
            self._thread.start()

    def start_on_first_frame(self, on_progress: OnProgress) -> OnProgress:
        """Wrap ``on_progress`` so that loading starts when the first frame is decoded.

        By then the sources are downloaded, the prompt fits, and the video is readable, so weights
        are not downloaded for a question that fails.
        """

        def report(progress: Progress) -> None:
            on_progress(progress)
            if progress.stage == "decode" and progress.done >= 1:
                self.begin()

        return report

    def result(self) -> Engine:
        """Wait for the engine. Raises the error of loading."""
        self.begin()
        assert self._thread is not None
        while self._thread.is_alive():
            self._thread.join(_LOOK_AGAIN_SECONDS)
        if self._error is not None:
            raise self._error
        assert self._engine is not None
        return self._engine

    def _run(self) -> None:
        try:
            self._engine = self._load()
        except Exception as error:  # re-raised by result() on the caller's thread
            self._error = error
