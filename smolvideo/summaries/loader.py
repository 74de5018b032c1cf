"""The model-free half of a run: from a work item to its transformed frames.

It runs in prefetch threads. An item yields, in this order, its ``IdentifiedSource``; then, if it
must be summarised, a ``ProbedVideo`` and either a ``PreparedPrompt`` for the whole video or its
``Window`` objects.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from smolvideo.errors import PromptError, ReaderError, RecordError, SmolVideoError
from smolvideo.files import content_hash, file_state, still_changing
from smolvideo.frames import Frame, FramePlan, VideoMetadata
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, prepare
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, describe_budget, frame_transform, max_frames_that_fit
from smolvideo.readers import VideoReader, open_video
from smolvideo.sampling import FrameSampling
from smolvideo.source import DownloadOptions, VideoSource
from smolvideo.summaries.options import SummaryOptions, SummaryPrompts
from smolvideo.summaries.windows import Window, stream_windows
from smolvideo.summaries.worklist import WorkItem, resolve_item


@dataclass(frozen=True)
class IdentifiedSource:
    """An item's local source, content hash and file metadata.

    ``state`` is the ``file_state`` of the content; ``stamp`` is the ``file_stat`` that records
    store.
    """

    source: VideoSource
    sha256: str | None
    stamp: tuple[int, ...]
    state: tuple[int, ...] = ()

    def check_unchanged(self) -> None:
        """Raises SourceError where the file has changed since it was hashed."""
        if file_state(self.source.path) != self.state:
            raise still_changing(self.source.path)


@dataclass(frozen=True)
class ProbedVideo:
    """A video that will be summarised, yielded before its frames."""

    metadata: VideoMetadata
    window_seconds: float | None


LoadedPart = IdentifiedSource | ProbedVideo | PreparedPrompt | Window

KnownHash = Callable[[str, tuple[int, ...]], str | None]
"""``(path, stamp) -> hash`` of a file that was hashed before and has not changed since."""


@dataclass(frozen=True)
class VideoLoader:
    """Decodes videos for one checkpoint with one set of options."""

    checkpoint: Checkpoint
    options: SummaryOptions
    download: DownloadOptions
    frames: int
    """Maximum number of frames per window."""

    def load(
        self,
        item: WorkItem,
        *,
        known_hash: KnownHash,
        is_needed: Callable[[IdentifiedSource], bool],
        on_progress: OnProgress = no_progress,
    ) -> Iterator[LoadedPart]:
        """Yield the parts of an item: its identity, then its frames if ``is_needed``.

        Raises SourceError and ReaderError where it cannot be found or decoded, PromptError where
        it does not fit the context.
        """
        try:
            source = resolve_item(item, self.download, on_progress)
            found = identify(source, item.path, known_hash)
            yield found
            if is_needed(found):
                yield from self._seen(found, on_progress)
        except (SmolVideoError, MemoryError):
            raise
        except Exception as error:  # hostile files make decoders raise anything
            raise ReaderError(
                f"`{item.name}` cannot be read: {type(error).__name__}: {error}"
            ) from error

    def pieces_of(self, item: WorkItem, found: IdentifiedSource) -> Iterator[LoadedPart]:
        """Yield the parts after ``IdentifiedSource`` of an item that was identified elsewhere.

        Raises as ``load``, and SourceError where the file differs on this machine.
        """
        if file_stat(found.source.path) != found.stamp:
            raise still_changing(found.source.path)
        pieces = self.load(item, known_hash=lambda *_: found.sha256, is_needed=lambda _: True)
        next(pieces)
        return pieces

    def _seen(self, found: IdentifiedSource, on_progress: OnProgress) -> Iterator[LoadedPart]:
        """Decode the content that was hashed. Raises SourceError if the file changes meanwhile."""
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
        """Return the metadata and the window length of a source. Raises ReaderError."""
        with self.reader(source) as reader:
            return self.seen_as(reader.metadata)

    def reader(self, source: VideoSource) -> VideoReader:
        """Open the source with the reader of the options. Raises ReaderError."""
        return open_video(source.path, kind=source.kind, reader=self.options.reader)

    def seen_as(self, metadata: VideoMetadata) -> ProbedVideo:
        """Choose between a single prompt and windows for a video with this metadata."""
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
                at_shot_changes=self.options.ends_at_shot_changes,
                on_progress=on_progress,
            )


def identify(source: VideoSource, path: str, known_hash: KnownHash) -> IdentifiedSource:
    """Hash the content, or reuse the recorded hash if ``file_stat`` is unchanged.

    Raises ReaderError where the file cannot be read, SourceError where it keeps changing.
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
    """Size, mtime and ctime of a file; empty for a folder, as its files have their own."""
    try:
        state = os.stat(path)
    except OSError:
        return ()
    if path.is_dir():
        return ()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def frames_per_window(checkpoint: Checkpoint, options: SummaryOptions) -> int:
    """Return how many frames of a window fit the context together with the longest question.

    Raises PromptError where none fits, or fewer than ``max_frames`` without ``reduce_to_fit``.
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
