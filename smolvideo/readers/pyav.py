"""The default reader: FFmpeg through PyAV.

Right on everything FFmpeg can decode: rotation, aspect, colours, edit lists, streams without index,
and files that broke off. Where the file has an index of key frames, its segments are decoded side
by side (``segments.py``, ``lanes.py``); elsewhere, and where that fails, one pass forward with
jumps (``cursor.py``).
"""

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame, Images, TimedText, VideoMetadata
from smolvideo.readers.alone import refuse_list
from smolvideo.readers.base import (
    MAX_PIXELS,
    NotAVideoError,
    VideoReader,
    ascending,
    check_file,
    refuse_huge,
)
from smolvideo.readers.clocks import Part
from smolvideo.readers.cursor import FrameCursor
from smolvideo.readers.encryption import encryption_in, encryption_of, locks_pictures
from smolvideo.readers.lanes import Lanes
from smolvideo.readers.segments import (
    Segment,
    decode_key_frame,
    decode_segment,
    plan_segments,
)
from smolvideo.readers.shown import PQ, Shape, image_as_shown, shape_of
from smolvideo.readers.texts import read_text_track
from smolvideo.readers.timeline import (
    LastPackets,
    is_still_attachment,
    open_container,
    rate_of,
    read_all_packets,
    read_key_times,
    read_last_packets,
    visible_frames,
)
from smolvideo.readers.witness import Witness

_FASTEST_RATE = 300
"""Frames per second beyond which a header's rate is a misread time base (Matroska: 1000)."""
_LYING_COUNT = 0.1
"""Share by which a header's number of frames may miss what rate and duration say: fragmented files
count the first fragment only."""
_MOST_DECODING_THREADS = 8
_LARGE = 4096 * 2304
"""Pixels of a frame beyond 4K."""
_WAITING_MEMORY = 96 * 2**20
_DECODER_MEMORY = 240 * 2**20
"""Bytes for decoded frames that wait, and for the frames that decoders keep to refer to."""
_FRAMES_OF_A_DECODER = 20
"""H.264 and HEVC refer to 16 frames at most; some are under way."""
_SILENT_DECODERS = {"hevc", "vvc"}
"""Decoders that flag no frame as corrupt. Where errors are reported, they do say so, and give the
same frames."""
_SEGMENT_SUFFIXES = {".ts", ".m4s", ".cmfv"}
"""Files that are often pieces of a stream."""

T = TypeVar("T")


class PyavReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`.

    Of a ``part`` of the file the times are on the continued clock; ``followed`` says that another
    comes after it.

    Raises:
        ReaderError: the file cannot be opened, has no video stream, or nothing in it can be
        decoded.
    """

    name = "pyav"

    def __init__(self, path: Path, part: Part | None = None, *, followed: bool = False) -> None:
        self._path = path
        self._part = part
        self._followed = followed
        self._index: int | None = None
        self._times: list[float] | None = None
        try:
            self._encrypted = encryption_in(path)
        except OSError as error:
            raise _cannot_open(path) from error
        # With several threads, flags of frames come late, errors do not.
        self._cursor = FrameCursor(lambda threads: self._open(threads, strict=threads is None))
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._cursor.close()

    def seconds_of(self, part: Part) -> float:
        """When the first frame of a part appears, on the player's clock."""
        return float(part.near(self._origin).first - self._origin)

    def frame_times(self) -> list[float]:
        if self._times is None:
            packets = self._read_packets(lambda index: read_all_packets(self._container, index))
            self._times = self._shown_times(packets)
        return list(self._times)

    def witness(self) -> Witness:
        """What the readers that know less are held to."""
        shown = self.metadata
        return Witness(self._unseen_by_others(), shown.width, shown.height, self.frame_times())

    def _unseen_by_others(self) -> str:
        first = self._cursor.first()
        turns = (self._shape.transposed, self._shape.mirrored, self._shape.flipped)
        if sum(turns) % 2:
            return "mirrored pictures"
        if first is not None and first.interlaced_frame:
            return "interlaced pictures"
        if first is not None and first.color_trc == PQ:
            return "HDR"
        return ""

    def key_frame_times(self) -> list[float]:
        keys = self._read_packets(lambda index: read_key_times(self._container, index))
        times = (round(time - self._origin, 6) + 0.0 for time in keys)
        return [time for time in times if time >= self._first - self._tolerance] or [self._first]

    def text_track(self) -> list[TimedText]:
        return self._read_packets(
            lambda _: read_text_track(self._container, self._origin, self._encrypted)
        )

    def frames_at(
        self, seconds: Sequence[float], *, longest: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        shape = self._shape.within(longest)
        last: Frame | None = None
        last_ticks: int | None = None
        for decoded in self._decoded_at(ascending(seconds), keyframes=keyframes):
            if last is None or decoded.pts != last_ticks:
                last = Frame(
                    self._image(decoded, shape),
                    self._seconds(decoded.pts),
                    self._cursor.damage_of(decoded),
                )
                last_ticks = decoded.pts
            yield last

    def _decoded_at(self, seconds: list[float], *, keyframes: bool) -> Iterator[Any]:
        """The decoded frames on screen; of times that damage left without one, nothing."""
        ticks = [max(self._ticks(time), self._first_ticks) for time in seconds]
        with contextlib.closing(self._by_segments(ticks, keyframes=keyframes)) as segmented:
            place, decoded = next(segmented, (len(ticks), None))
            for number, tick in enumerate(ticks):
                if number < place:
                    frame = self._by_cursor(tick, keyframes=keyframes)
                else:
                    frame = decoded
                    place, decoded = next(segmented, (len(ticks), None))
                if frame is not None:
                    yield frame

    def _by_cursor(self, tick: float, *, keyframes: bool) -> Any | None:
        if keyframes:
            keys = [self._ticks(time) for time in self.key_frame_times()]
            tick = max((key for key in keys if key <= tick), default=self._first_ticks)
        return self._cursor.frame_at(tick)

    def _by_segments(self, ticks: list[float], *, keyframes: bool) -> Generator[tuple[int, Any]]:
        """``(place, frame)`` of what can be found by the index, in order."""
        if not ticks or self._cursor.untimed:
            return
        container, stream = self._open()
        with container:
            segments = plan_segments(container, stream, ticks)
        if segments is None:
            return
        lanes, threads, room = self._division(stream, segments, keyframes=keyframes)
        side_by_side = Lanes(
            lambda: self._open(threads, strict=True),
            decode_key_frame if keyframes else decode_segment,
            segments,
            lanes=lanes,
            room=room,
        )
        yield from side_by_side.frames()

    def _division(
        self, stream: Any, segments: Sequence[Segment], *, keyframes: bool
    ) -> tuple[int, int, int]:
        """How many lanes, threads in each, and frames of a segment that may wait."""
        frame_bytes = 3 * stream.width * stream.height  # 4:2:0 with ten bits, or 4:4:4
        cores = _cores()
        memory = _DECODER_MEMORY // (_FRAMES_OF_A_DECODER * frame_bytes)
        lanes = max(1, min(cores, memory, len(segments)))
        waiting = max(2, _WAITING_MEMORY // frame_bytes)
        room = max(2, waiting // (2 * lanes))
        most = max(len(segment.wanted) for segment in segments)
        # Few segments, or more wanted of one than may wait: the lanes would wait for each other.
        if lanes > 1 and not keyframes and (len(segments) < 2 * lanes or most > room):
            lanes, room = 1, waiting
        return lanes, max(1, _decoding_threads(stream.width * stream.height) // lanes), room

    def _ticks(self, time: float) -> float:
        return float((time + self._tolerance + self._origin) / self._tick)

    def _image(self, decoded: Any, shape: Shape) -> Images:
        import av

        try:
            return image_as_shown(decoded, shape)
        except (av.error.FFmpegError, ValueError) as error:
            raise ReaderError(
                f"`{self._path.name}` has pictures that cannot be turned into RGB "
                f"({decoded.format.name})"
            ) from error

    def _seconds(self, ticks: int) -> float:
        """The container's clock to the player's; microseconds, so that 0 is 0 and not -1e-15."""
        return float(round(ticks * self._tick - self._origin, 6) + 0.0)

    # ------------------------------------------------------------------ opening

    def _container(self) -> Any:
        return open_container(self._path, None if self._part is None else self._part.stretch)

    def _open(self, threads: int | None = None, *, strict: bool = False) -> tuple[Any, Any]:
        """A container and its stream, ready to decode; ``threads`` None is as many as make sense.

        ``strict`` makes damage an error, where the decoder would make something up.
        """
        import av

        # With any level PyAV listens, and its listener waits for Python's lock in the decoder's own
        # threads: closing, which holds that lock and waits for them, then never ends.
        av.logging.set_level(None)
        try:
            container = self._container()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self._refuse_if_encrypted()
            refusal = _cannot_open(self._path)
            if isinstance(error, av.error.ArgumentError):  # no demuxer of the white list
                refusal = NotAVideoError(str(refusal), hint=refusal.hint)
            raise refusal from error
        try:
            stream = self._choose_stream(container)
            # 0 by 0 where the header does not say; the first frame will.
            refuse_huge(stream.width or 1, stream.height or 1, self._path.name)
            context = stream.codec_context
            context.options = {"max_pixels": str(MAX_PIXELS)} | (
                {"err_detect": "explode"} if strict or context.name in _SILENT_DECODERS else {}
            )
            context.thread_type = "AUTO"
            context.thread_count = threads or _decoding_threads(stream.width * stream.height)
        except BaseException:
            container.close()
            raise
        return container, stream

    def _choose_stream(self, container: Any) -> Any:
        if self._index is not None:
            return container.streams[self._index]
        moving = [stream for stream in container.streams.video if not is_still_attachment(stream)]
        candidates = [stream for stream in moving if stream.codec_context is not None]
        if moving and not candidates:
            self._refuse_if_encrypted()
            raise ReaderError(f"the video of `{self._path.name}` is in a codec unknown here")
        if not candidates:
            raise NotAVideoError(
                f"`{self._path.name}` has no video stream",
                hint="it holds sound only" if container.streams.audio else None,
            )
        best = container.streams.best("video")
        if best is None or all(best.index != stream.index for stream in candidates):
            best = max(candidates, key=lambda stream: stream.width * stream.height)
        if (found := encryption_of(self._encrypted, container, best)) is not None:
            raise found.error(self._path.name)
        self._index = best.index
        return best

    def _refuse_if_encrypted(self) -> None:
        """Raise NotAVideoError where that is why the pictures cannot be read."""
        if (found := locks_pictures(self._encrypted)) is not None:
            raise found.error(self._path.name)

    def _prepare(self) -> None:
        container, stream = self._cursor.container, self._cursor.stream
        first = self._cursor.first()
        if first is None:
            self._refuse_if_encrypted()
            raise ReaderError(
                f"no decodable video frames in `{self._path.name}` ({stream.codec_context.name})"
            )
        refuse_huge(first.width, first.height, self._path.name)
        self._shape = shape_of(first, stream.sample_aspect_ratio)
        refuse_huge(self._shape.width, self._shape.height, self._path.name)
        self._tick = float(stream.time_base)
        # Half a tick, where ticks are short, forgives the rounding of times that were computed.
        self._tolerance = min(self._tick / 2, 0.0005)
        starts = container.start_time
        self._origin = starts / 1e6 if starts is not None else first.pts * self._tick
        self._begins = 0.0
        if self._part is not None and self._part.starts_at is not None:
            origin = self._part.near(self._origin).first - self._part.starts_at
            self._begins = self._origin - origin
            self._origin = origin
        self._first, self._first_ticks = self._seconds(first.pts), first.pts
        if self._part is not None:
            # Frames before the part's own stand there for what leans on them.
            begins = self.seconds_of(self._part)
            if begins > self._first + self._tolerance:
                self._first, self._first_ticks = begins, round(self._ticks(begins))
        self.metadata = self._read_metadata(container, stream)

    def _read_metadata(self, container: Any, stream: Any) -> VideoMetadata:
        claimed = container.duration / 1e6 if container.duration else None
        if self._part is not None and self._followed:
            # What FFmpeg makes of the end may belong to the next clock already.
            claimed = self.seconds_of(self._part) + self._part.seconds
        elif claimed is not None:
            claimed += self._begins
        claimed_end = claimed + self._origin if claimed is not None else None
        packets = self._read_packets(
            lambda index: read_last_packets(self._container, index, claimed_end)
        )
        last = self._first if packets is None else round(packets.last_frame - self._origin, 6)
        end = last if packets is None else packets.end - self._origin
        broke_off = claimed is not None and end < claimed * 0.95 - 0.5
        goes_on = claimed is not None and last >= claimed
        duration = end if claimed is None or broke_off or goes_on else claimed
        rate: float | None = float(stream.average_rate or 0)
        count = None if broke_off else visible_frames(stream)
        if packets is not None and packets.times is not None:
            self._times = self._shown_times(packets)
        if not rate or not 0 < rate <= _FASTEST_RATE:
            rate = rate_of(self.frame_times())
        if self._times is not None:
            count = len(self._times)
        elif (
            count is not None
            and rate
            and abs(count - 1 - (last - self._first) * rate) > (2 + _LYING_COUNT * count)
        ):
            count = None
        return VideoMetadata(
            width=self._shape.shown_width,
            height=self._shape.shown_height,
            duration_seconds=round(max(duration, 0.0), 6),
            num_frames=count,
            average_fps=rate,
            codec=stream.codec_context.codec.canonical_name,
            kind="video",
            reader=self.name,
            name=self._path.name,
            comment=container.metadata.get("comment", ""),
            first_frame_seconds=max(self._first, 0.0),
            last_frame_seconds=max(last, self._first),
        )

    def _read_packets(self, read: Callable[[int], T]) -> T:
        import av

        assert self._index is not None
        try:
            return read(self._index)
        except (av.error.FFmpegError, OSError) as error:
            raise _cannot_open(self._path) from error

    def _shown_times(self, packets: LastPackets | None) -> list[float]:
        """Times of packets on the player's clock, without those before the first decodable
        frame."""
        times = () if packets is None or packets.times is None else packets.times
        shown = [round(time - self._origin, 6) + 0.0 for time in times]
        return [time for time in shown if time >= self._first - self._tolerance] or [self._first]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: those that this process may use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _decoding_threads(pixels: int) -> int:
    """Every thread holds frames of its own; of 8K ones a few are a gigabyte."""
    return min(_cores(), _MOST_DECODING_THREADS if pixels < _LARGE else 2)


def _cannot_open(path: Path) -> ReaderError:
    check_file(path)
    refuse_list(path)
    hint = "a download or recording that broke off cannot be opened; fetch it again"
    if path.suffix.lower() in _SEGMENT_SUFFIXES:
        hint = "a single segment of a stream is encrypted (HLS AES-128), or needs its init segment"
    return ReaderError(
        f"`{path.name}` is not a video that can be read, or its header is lost", hint=hint
    )
