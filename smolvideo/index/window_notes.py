"""Notes on the windows of a video: the part of indexing that runs the model, and needs no index."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from smolvideo.engines import Engine
from smolvideo.errors import SmolVideoError
from smolvideo.index.entries import IndexedWindow
from smolvideo.index.options import IndexOptions, screen_text
from smolvideo.models import Checkpoint
from smolvideo.pipeline import notices_for_model
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, pack_prompt
from smolvideo.source import DownloadOptions
from smolvideo.summaries.inference import answer
from smolvideo.summaries.loader import LoadedPart, VideoLoader, frames_per_window
from smolvideo.summaries.run import RunStats
from smolvideo.summaries.summariser import PromptBatch
from smolvideo.summaries.windows import Window


class NotedWindow(NamedTuple):
    """A window with its note, without subtitles; ``notices`` are about the video and the model."""

    window: IndexedWindow
    notices: tuple[str, ...] = ()


NotedPart = LoadedPart | NotedWindow
"""A part of a video, decoded on this machine, or noted by a worker of a cluster."""


class EngineLoadFailed(SmolVideoError):
    """Wraps an error of loading the model, so that handlers of a video's errors let it through."""

    def __init__(self, why: SmolVideoError) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass
class WindowNotes:
    """Asks one model about windows. ``engine`` is called once, before the first prompt."""

    checkpoint: Checkpoint
    engine: Callable[[], Engine]
    options: IndexOptions
    on_progress: OnProgress = no_progress
    tally: RunStats = field(default_factory=RunStats)

    def __post_init__(self) -> None:
        self.questions = self.options.questions(self.checkpoint)
        self._loaded: Engine | None = None

    def loader(self, download: DownloadOptions) -> VideoLoader:
        """Return the decoder of the windows; raises as ``frames_per_window``."""
        longest = replace(self.options, prompt=max(self.questions, key=len))
        frames = frames_per_window(self.checkpoint, longest)
        return VideoLoader(self.checkpoint, self.options, download, frames)

    def note_windows(
        self, parts: Iterable[NotedPart], there: Collection[int]
    ) -> Iterator[NotedWindow]:
        """Yield the windows of a video, except those whose numbers are ``there``.

        Raises EngineLoadFailed, and the errors of the video.
        """
        number, notices = 0, None
        for part in parts:
            if isinstance(part, NotedWindow):
                yield part
            elif isinstance(part, Window):
                if number not in there:
                    if notices is None:
                        notices = tuple(notices_for_model(self.checkpoint, [part.batch]))
                    yield NotedWindow(self.note(number, part), notices)
                number += 1

    def note(self, number: int, window: Window) -> IndexedWindow:
        """Answer the questions about a window, on one prefill of its frames."""
        started = time.perf_counter()
        try:
            engine = self._engine()
            prompts = tuple(
                pack_prompt(
                    (Message("user", (window.batch, question)),),
                    self.checkpoint,
                    self.options.prompt_options,
                )
                for question in self.questions
            )
            answers = answer(
                engine, PromptBatch(prompts, self.options.generation), on_progress=self.on_progress
            )
        finally:
            self.tally.answered_seconds += time.perf_counter() - started
        note, *written = (one.text for one in answers)
        return IndexedWindow(
            number,
            window.start_seconds,
            window.end_seconds,
            window.frame_times,
            " ".join(note.split()),
            screen_text(written[0]) if written else "",
        )

    def _engine(self) -> Engine:
        if self._loaded is None:
            try:
                self._loaded = self.engine()
            except SmolVideoError as error:
                raise EngineLoadFailed(error) from error  # it ends the run, not one video
            self.tally.load_seconds = self._loaded.load_seconds
        return self._loaded
