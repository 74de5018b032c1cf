"""The engine loads while frames are decoded: the two hardly disturb each other."""

import threading
from collections.abc import Callable

from smolvideo.cli.cache import open_feature_cache
from smolvideo.conversation import Settings
from smolvideo.engines import Engine
from smolvideo.progress import OnProgress, Progress


def load_engine_for(settings: Settings, on_progress: OnProgress) -> Engine:
    """The engine of a conversation. Raises as ``EngineSpec.load`` does."""
    return settings.spec.load(cache=open_feature_cache(settings.engine), on_progress=on_progress)


_LOOK_AGAIN_SECONDS = 0.2
"""Windows delivers Ctrl-C only between two waits."""


class BackgroundEngine:
    """An engine that is loaded in the background once it is worth it; ``result`` waits for it.

    The thread is a daemon: whoever presses Ctrl-C does not wait for weights.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._error: Exception | None = None

    def begin(self) -> None:
        """Start loading, if nobody has."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="load engine", daemon=True)
            self._thread.start()

    def start_on_first_frame(self, on_progress: OnProgress) -> OnProgress:
        """``on_progress`` that also begins the loading once a frame has been decoded.

        By then the sources are there, the prompt is known to fit, and the video can be read:
        weights are never downloaded in vain.
        """

        def report(progress: Progress) -> None:
            on_progress(progress)
            if progress.stage == "decode" and progress.done >= 1:
                self.begin()

        return report

    def result(self) -> Engine:
        """The engine. Raises what loading raised."""
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
        except Exception as error:  # raised again by result(), where somebody listens
            self._error = error
