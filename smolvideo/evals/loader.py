"""Clip loader: decodes the frames that a clip's questions share, one clip ahead."""

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from smolvideo.errors import PromptError, ReaderError, SmolVideoError, SourceError, UsageError
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.item import EvalItem
from smolvideo.evals.protocol import format_question
from smolvideo.evals.run_folder import EvalVideo, clip_id
from smolvideo.evals.run_records import ErrorKind
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import FoundVideo, MissingVideo, VideoFinder
from smolvideo.files import content_hash, file_state, read_unchanged
from smolvideo.frames import FrameBatch, FramePlan, Images
from smolvideo.models import Checkpoint
from smolvideo.prompt import (
    Message,
    count_tokens,
    describe_budget,
    frame_transform,
    max_frames_that_fit,
)
from smolvideo.readers import VideoReader, open_video
from smolvideo.sampling import FrameSampling, choose_times, sample_frames, still_image_warning
from smolvideo.sanitize import display_name
from smolvideo.subtitles import Cue, cues_near, read_subtitles

Job = TypeVar("Job")
Result = TypeVar("Result")

_CUT_SECONDS = 1.0
"""Tolerance for the length of a cut video: cuts are made at key frames."""
_STRIP_FRAMES = 10
_STRIP_HEIGHT = 96


@dataclass(frozen=True)
class PreparedItem:
    """An item with its inputs: ``frames`` is the key of its batch, ``subtitles`` its text.

    ``subtitles_sha256`` is the hash of the subtitle file. ``error`` is set instead if the item
    cannot be asked.
    """

    item: EvalItem
    frames: int = 0
    subtitles: str | None = None
    subtitles_sha256: str | None = None
    error: SmolVideoError | None = None


@dataclass(frozen=True)
class DecodedClip:
    """One part of one video, decoded: its items, and the frames by the number requested.

    ``thumbnails`` is a JPEG of some frames, for reports. ``unread`` is a file that could not be
    read, for example because it is still growing; ``video.stamp`` is its state at that time.
    """

    items: tuple[PreparedItem, ...]
    batches: dict[int, FrameBatch]
    video: EvalVideo
    thumbnails: bytes | None = None
    unread: Path | None = None


@dataclass
class ClipLoader:
    """Decodes clips for one checkpoint and one set of settings.

    ``notices`` maps clip ids to notices that are known before loading, for their records.
    """

    checkpoint: Checkpoint
    settings: EvalSettings
    benchmark: str
    finder: VideoFinder
    notices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _hashes: dict[tuple[Path, tuple[int, ...]], str] = field(default_factory=dict)

    def load(self, items: Sequence[EvalItem]) -> DecodedClip:
        """Decode the frames for ``items``, which are about the same part of one video.

        A file that changes meanwhile is read again. Errors are stored in the items; only UsageError
        is raised.
        """
        first = items[0]
        path: Path | None = None
        stamp: tuple[int, ...] = ()
        try:
            path = self.finder.path(first)
            stamp = () if path is None else file_state(path)
            found = self.finder.find(first)
            path = found.source.path
            return read_unchanged(lambda: self._look_at(found, items), path)
        except UsageError:
            raise
        except SmolVideoError as error:
            failed = tuple(PreparedItem(item, error=error) for item in items)
            video = EvalVideo(clip_id(first), first.video, stamp=stamp, notices=(str(error),))
            is_of_file = error_category(error) == "video"
            return DecodedClip(failed, {}, video, unread=path if is_of_file else None)

    def _look_at(self, found: FoundVideo, items: Sequence[EvalItem]) -> DecodedClip:
        started = time.perf_counter()
        source, stamp = found.source, file_state(found.source.path)
        heard: dict[str, None] = {}  # notices about subtitles: an ordered set
        with open_video(source.path, kind=source.kind, reader=self.settings.reader) as reader:
            duration = reader.metadata.duration_seconds
            sampling, notices = self._sampling(items[0], found, duration)
            if stills := _without_window(reader, sampling):
                sampling = sampling.without_window()
            ready = tuple(self._ready(item, source.path, reader, sampling, heard) for item in items)
            batches = {
                frames: self._decoded(reader, replace(sampling, max_frames=frames))
                for frames in sorted({one.frames for one in ready if one.error is None})
            }
        video = EvalVideo(
            clip_id(items[0]),
            items[0].video,
            file=found.file,
            sha256=self.content_hash(source.path),
            stamp=stamp,
            seconds={"decode": round(time.perf_counter() - started, 3)},
        )
        before = self.notices.get(video.look, ())
        return self._describe(ready, batches, video, (*before, *heard, *notices, *stills))

    def _describe(
        self,
        ready: tuple[PreparedItem, ...],
        batches: dict[int, FrameBatch],
        video: EvalVideo,
        notices: tuple[str, ...],
    ) -> DecodedClip:
        if not batches:
            return DecodedClip(ready, batches, video)
        batch = batches[max(batches)]
        strip = thumbnail_strip(batch.images)
        video = replace(
            video,
            frame_times=batch.pts_seconds,
            geometry=batch.geometry,
            layout=self.settings.prompt_options.layout or self.checkpoint.layout,
            strip=f"{video.look}.jpg",
            drawn=batch.metadata.is_synthetic,
            notices=(*notices, *batch.warnings),
        )
        return DecodedClip(ready, batches, video, strip)

    def _sampling(
        self, item: EvalItem, found: FoundVideo, duration_seconds: float
    ) -> tuple[FrameSampling, tuple[str, ...]]:
        """Restrict the sampling to the item's part of the video; also return notices about it.

        A folder of frames has no clock: its frames count as one second each, whatever their rate.
        """
        is_frames = found.source.kind == "frames"
        scale = item.frames_fps if is_frames and item.frames_fps else 1.0
        edges = {"start_seconds": item.start_seconds, "end_seconds": item.end_seconds}
        given = {name: edge * scale for name, edge in edges.items() if edge is not None}
        is_cut = found.is_cut or (
            SCHEMAS[self.benchmark].has_cut_videos
            and not is_frames
            and _is_cut(item, duration_seconds)
        )
        if given and is_cut:
            notice = f"`{display_name(found.file)}` is cut to its part already, and is seen whole"
            return self.settings.sampling, (notice,)
        return replace(self.settings.sampling, **given), ()  # type: ignore[arg-type]

    def _ready(
        self,
        item: EvalItem,
        path: Path,
        reader: VideoReader,
        sampling: FrameSampling,
        heard: dict[str, None],
    ) -> PreparedItem:
        """Prepare an item's inputs; notices about its subtitles are added to ``heard``."""
        try:
            cues, sha256 = self._cues(item, path, heard)
            frames = self._choose_frame_count(item, reader, sampling, cues)
            times = choose_times(reader, replace(sampling, max_frames=frames))
        except UsageError:
            raise
        except SmolVideoError as error:
            return PreparedItem(item, error=error)
        return PreparedItem(item, frames, self._subtitles(item, cues, times), sha256)

    def _choose_frame_count(
        self,
        item: EvalItem,
        reader: VideoReader,
        sampling: FrameSampling,
        cues: Sequence[Cue],
    ) -> int:
        """Number of frames to request; depends on this item alone, so that its answer does, too.

        Raises PromptError if the prompt does not fit and the settings forbid fewer frames.
        """
        options, generation = self.settings.prompt_options, self.settings.generation

        def planned(frames: int) -> tuple[Message, ...]:
            times = choose_times(reader, replace(sampling, max_frames=frames))
            media = FramePlan(tuple(times), reader.metadata)
            subtitles = self._subtitles(item, cues, times)
            return (build_message(self.settings, self.benchmark, item, media, subtitles),)

        asked, room = sampling.max_frames, generation.max_new_tokens
        tokens = count_tokens(planned(asked), self.checkpoint, options)
        if tokens + room <= self.checkpoint.context_tokens:
            return asked
        fit = max_frames_that_fit(
            planned, self.checkpoint, options, max_new_tokens=room, max_frames=asked
        )
        if not sampling.reduce_to_fit:
            raise PromptError(
                f"the frames and the text take {tokens:,} tokens; "
                f"{describe_budget(self.checkpoint, room)}",
                hint=f"`--max-frames {fit}` fits",
            )
        return fit

    def _decoded(self, reader: VideoReader, sampling: FrameSampling) -> FrameBatch:
        geometry, fit = frame_transform(self.checkpoint, self.settings.prompt_options)
        return sample_frames(reader, sampling, transform=fit, geometry=geometry)

    def subtitle_file(self, item: EvalItem, video: Path) -> Path | None:
        """Return the subtitle file next to the videos that this run uses for ``item``, if any.

        Raises MissingVideo if it is ambiguous.
        """
        if self.settings.subtitles not in ("all", "frames") or item.subtitles:
            return None
        return self.finder.subtitle_file(item, video)

    def _cues(
        self, item: EvalItem, video: Path, heard: dict[str, None]
    ) -> tuple[list[Cue], str | None]:
        """Cues of the subtitle file next to the videos, if the settings use it, and its hash."""
        path = self.subtitle_file(item, video)
        if path is None:
            return [], None

        def read() -> tuple[list[Cue], str]:
            cues = read_subtitles(path, on_notice=lambda notice: heard.setdefault(notice))
            return cues, content_hash(path)

        return read_unchanged(read, path)

    def _subtitles(self, item: EvalItem, cues: Sequence[Cue], times: Sequence[float]) -> str | None:
        if self.settings.subtitles == "none":
            return None
        if item.subtitles:
            return item.subtitles
        shown = cues_near(cues, times, within_seconds=0.0) if self._at_frames else cues
        return "\n".join(cue.text for cue in shown) or None

    @property
    def _at_frames(self) -> bool:
        return self.settings.subtitles == "frames"

    def content_hash(self, path: Path) -> str:
        """Return the hash of a file or folder of frames, cached until it changes."""
        known_as = path, file_state(path)
        if known_as not in self._hashes:
            self._hashes[known_as] = content_hash(path)
        return self._hashes[known_as]


def _is_cut(item: EvalItem, duration_seconds: float) -> bool:
    """Whether a file contains only the part that is asked about: its length is that of the part,
    which would end after the file.

    Some benchmarks' videos are distributed whole and cut to their parts, under the same names.
    """
    start, end = item.start_seconds or 0.0, item.end_seconds
    if end is None or start <= _CUT_SECONDS:
        return duration_seconds <= start
    as_long = abs(duration_seconds - (end - start)) <= _CUT_SECONDS
    return duration_seconds <= start or (as_long and duration_seconds < end - _CUT_SECONDS)


def _without_window(reader: VideoReader, sampling: FrameSampling) -> tuple[str, ...]:
    """A warning if the source is a still image but a part of a video is asked for."""
    still = reader.metadata.kind == "image" and sampling.has_window
    return (still_image_warning(reader.metadata),) if still else ()


def build_message(
    settings: EvalSettings,
    benchmark: str,
    item: EvalItem,
    media: FrameBatch | FramePlan | None,
    subtitles: str | None,
    order: Sequence[int] | None = None,
) -> Message:
    """Build the user turn for ``item``, its options in ``order``; text alone without ``media``."""
    options = item.options if order is None else [item.options[place] for place in order]
    asked = format_question(settings.prompt, benchmark, item.question, options, subtitles)
    content = (asked.text,) if media is None else (media, asked.text)
    return Message("user", content, preamble=asked.instruction)


def error_category(error: SmolVideoError) -> ErrorKind:
    """Return the error's kind for records."""
    if isinstance(error, MissingVideo):
        return "missing"
    if isinstance(error, SourceError | ReaderError):
        return "video"
    return "prompt" if isinstance(error, PromptError) else "model"


def thumbnail_strip(images: Images) -> bytes:
    """Return up to ten of the frames side by side, as a JPEG of some kilobytes."""
    from PIL import Image

    count = min(len(images), _STRIP_FRAMES)
    chosen = [images[place * len(images) // count] for place in range(count)]
    height, width = chosen[0].shape[:2]
    small = (max(1, width * _STRIP_HEIGHT // height), _STRIP_HEIGHT)
    strip = Image.new("RGB", (small[0] * count, small[1]))
    for place, image in enumerate(chosen):
        strip.paste(Image.fromarray(image).resize(small), (place * small[0], 0))
    written = io.BytesIO()
    strip.save(written, "JPEG", quality=60, optimize=True)
    return written.getvalue()


def prefetch_one(jobs: Iterable[Job], prepare: Callable[[Job], Result]) -> Iterator[Result]:
    """Yield ``prepare(job)`` in order, preparing exactly one job ahead in a thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="look ahead")
    waiting: Future[Result] | None = None
    try:
        for job in jobs:
            following = pool.submit(prepare, job)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
