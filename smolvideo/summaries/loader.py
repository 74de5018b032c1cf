"""The half of the work that needs no model: from an item of the list to its packed frames.

It runs in threads ahead of the model. What an item yields, in this order: what it turned out to be
(``IdentifiedSource``), and then either the whole video prepared, or its windows, or nothing, where
no question needs to be asked.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from smolvideo.content_hash import content_hash, file_state, still_changing
from smolvideo.errors import PromptError, ReaderError, RecordError, SmolVideoError
from smolvideo.frames import Frame, FramePlan, VideoMetadata
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, prepare
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, describe_budget, frame_transform, max_frames_that_fit
from smolvideo.readers import VideoReader, open_video
from smolvideo.sampling import FrameSampling
from smolvideo.source import DownloadOptions, VideoSource
from smolvideo.summaries.options import SummaryOptions
from smolvideo.summaries.prompts import SummaryPrompts
from smolvideo.summaries.windows import Window, stream_windows
from smolvideo.summaries.worklist import WorkItem, resolve_item


@dataclass(frozen=True)
class IdentifiedSource:
    """What an item is: its local source, its content, and when that was last changed.

    ``state`` is the ``file_state`` of the content; ``stamp`` is what records keep of it.
    """

    source: VideoSource
    sha256: str | None
    stamp: tuple[int, ...]
    state: tuple[int, ...] = ()

    def check_unchanged(self) -> None:
        """Raises SourceError where the file is no longer the one that was hashed."""
        if file_state(self.source.path) != self.state:
            raise still_changing(self.source.path)


@dataclass(frozen=True)
class ProbedVideo:
    """A video that will be summarised, before its frames."""

    metadata: VideoMetadata
    window_seconds: float | None


LoadedPart = IdentifiedSource | ProbedVideo | PreparedPrompt | Window

KnownHash = Callable[[str, tuple[int, ...]], str | None]
"""``(path, stamp) -> hash`` of a file that was read before and has not changed since."""


@dataclass(frozen=True)
class VideoLoader:
    """Looks at videos for one checkpoint with one set of options."""

    checkpoint: Checkpoint
    options: SummaryOptions
    download: DownloadOptions
    frames: int
    """Most frames of a window."""

    def load(
        self,
        item: WorkItem,
        *,
        known_hash: KnownHash,
        is_needed: Callable[[IdentifiedSource], bool],
        on_progress: OnProgress = no_progress,
    ) -> Iterator[LoadedPart]:
        """All that is to be known and seen of an item.

        Raises SourceError and ReaderError for what cannot be had or read, PromptError for what does
        not fit.
        """
        try:
            source = resolve_item(item, self.download, on_progress)
            found = identify(source, item.path, known_hash)
            yield found
            if is_needed(found):
                yield from self._seen(found, on_progress)
        except (SmolVideoError, MemoryError):
            raise
        except Exception as error:  # decoders meet files that nobody has thought of
            raise ReaderError(
                f"`{item.name}` cannot be read: {type(error).__name__}: {error}"
            ) from error

    def pieces_of(self, item: WorkItem, found: IdentifiedSource) -> Iterator[LoadedPart]:
        """What follows ``IdentifiedSource`` of an item that was identified elsewhere; raises as
        ``load``, and SourceError where its file is another one here.
        """
        if file_stat(found.source.path) != found.stamp:
            raise still_changing(found.source.path)
        pieces = self.load(item, known_hash=lambda *_: found.sha256, is_needed=lambda _: True)
        next(pieces)
        return pieces

    def _seen(self, found: IdentifiedSource, on_progress: OnProgress) -> Iterator[LoadedPart]:
        """The content that was hashed, or an error: a file may change while it is decoded."""
        opened = self.open(found.source)
        yield opened
        if opened.window_seconds is None:
            prepared = self._prepared(found.source, on_progress)
            found.check_unchanged()
            yield prepared
        else:
            yield from self._windows(found.source, opened.window_seconds, on_progress)
            found.check_unchanged()

    def open(self, source: VideoSource) -> ProbedVideo:
        """What the video says of itself, and how it will be seen. Raises ReaderError."""
        with self.reader(source) as reader:
            return self.seen_as(reader.metadata)

    def reader(self, source: VideoSource) -> VideoReader:
        """The source, opened. Raises ReaderError."""
        return open_video(source.path, kind=source.kind, reader=self.options.reader)

    def seen_as(self, metadata: VideoMetadata) -> ProbedVideo:
        """How a video that says this of itself will be seen: whole, or in windows."""
        if metadata.kind != "video":
            return ProbedVideo(metadata, None)
        return ProbedVideo(metadata, self.options.window_seconds_for(metadata.duration_seconds))

    def _prepared(self, source: VideoSource, on_progress: OnProgress) -> PreparedPrompt:
        question = SummaryPrompts.of(self.options, self.checkpoint).video_questions()[0]
        return prepare(
            self.checkpoint,
            source,
            question,
            sampling=FrameSampling(
                max_frames=self.options.max_frames, reduce_to_fit=self.options.reduce_to_fit
            ),
            prompt_options=self.options.prompt_options,
            generation=self.options.generation,
            reader=self.options.reader,
            on_progress=on_progress,
        )

    def _windows(
        self, source: VideoSource, window_seconds: float, on_progress: OnProgress
    ) -> Iterator[Window]:
        geometry, fit = frame_transform(self.checkpoint, self.options.prompt_options)
        with ExitStack() as stack:
            reader = stack.enter_context(open_video(source.path, reader=self.options.reader))
            close_up = None

            def look_closely(times: Sequence[float]) -> list[Frame]:
                nonlocal close_up
                if close_up is None:
                    close_up = stack.enter_context(
                        open_video(source.path, reader=self.options.reader)
                    )
                return list(close_up.frames_at(times))

            yield from stream_windows(
                reader,
                window_seconds=window_seconds,
                frames=self.frames,
                fit=fit,
                geometry=geometry,
                look_closely=look_closely,
                on_progress=on_progress,
            )


def identify(source: VideoSource, path: str, known_hash: KnownHash) -> IdentifiedSource:
    """Hash the content once; a file that has not changed since its record is not read again.

    Raises ReaderError where it cannot be read, SourceError where it does not stop changing.
    """
    state = file_state(source.path)
    stamp = file_stat(source.path)
    sha256 = known_hash(path, stamp) if stamp else None
    if sha256 is None:
        try:
            sha256 = content_hash(source.path)
        except RecordError as error:
            raise ReaderError(str(error)) from error
    found = IdentifiedSource(source, sha256, stamp, state)
    found.check_unchanged()
    return found


def file_stat(path: Path) -> tuple[int, ...]:
    """Size and times of change of a file; empty for a folder, whose files have their own."""
    try:
        state = os.stat(path)
    except OSError:
        return ()
    if path.is_dir():
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def frames_per_window(checkpoint: Checkpoint, options: SummaryOptions) -> int:
    """How many frames of a window fit the context beside the longest question.

    Raises PromptError where not one fits, or fewer than were explicitly asked for.
    """
    window = options.window_seconds
    metadata = VideoMetadata(width=640, height=360, duration_seconds=window)
    wording = SummaryPrompts.of(options, checkpoint)
    longest = max((*wording.window(), *wording.video_questions()), key=len)

    def planned(frames: int) -> tuple[Message, ...]:
        times = tuple(place * window / frames for place in range(frames))
        return (Message("user", (FramePlan(times, metadata), longest)),)

    room = options.generation.max_new_tokens
    fit = max_frames_that_fit(
        planned,
        checkpoint,
        options.prompt_options,
        max_new_tokens=room,
        max_frames=options.max_frames,
    )
    if fit < options.max_frames and not options.reduce_to_fit:
        raise PromptError(
            f"{options.max_frames} frames do not fit; {describe_budget(checkpoint, room)}",
            hint=f"`--max-frames {fit}` fits",
        )
    return fit


class Stopwatch:
    """Adds up the seconds of a ``with`` block."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started
