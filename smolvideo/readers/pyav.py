"""PyAV reader: the default, and the reference the others are checked against; decodes with FFmpeg.

Handles rotation, sample aspect, colour spaces, edit lists, streams without an index and truncated
files. With an index of key frames, GOPs are decoded in parallel (``gop.py``);
without one, or where that fails, in one forward pass with seeks
(``forward_decoder.py``).
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from smolvideo.errors import ReaderError
from smolvideo.frames import Frame, Images, SubtitleEvent, VideoMetadata
from smolvideo.readers.base import (
    Probe,
    VideoReader,
    check_frame_size,
    require_ascending,
)
from smolvideo.readers.discontinuities import Part
from smolvideo.readers.display import PQ, DisplayGeometry, display_geometry, to_display_rgb
from smolvideo.readers.endings import Ending, find_ending, is_cut
from smolvideo.readers.forward_decoder import ForwardDecoder
from smolvideo.readers.gop import (
    Gop,
    ParallelSegmentDecoder,
    decode_gop,
    decode_key_frame,
    plan_by_positions,
    plan_gops,
)
from smolvideo.readers.packet_times import (
    StreamEnd,
    rate_of,
    read_all_packets,
    read_key_times,
    read_last_packets,
    visible_frames,
)
from smolvideo.readers.text_tracks import read_text_track
from smolvideo.readers.video_stream import VideoStream, cannot_open, decoding_threads, usable_cores

_MAX_FPS = 300
"""Maximum frame rate; a higher one in a header is a misread time base (Matroska: 1000)."""
_MAX_COUNT_MISMATCH = 0.1
"""Relative error of a header's frame count against rate and duration, above which the count is
ignored: fragmented files count their first fragment only."""
_SMALL_FILE = 2**20
"""Bytes up to which a file is read whole instead of seeking, which also yields all frame times."""
_LYING_RATE = 0.02
"""Relative error of a header's frame rate above which the measured rate is used."""
_SLOW = 1.0
"""Frame duration in seconds above which FFmpeg's guess of the last frame's duration is replaced."""
_ROUNDED = 1.5e-6
"""Rounding error in seconds of FFmpeg's start time and ours, both in microseconds, for finer time
bases."""
_WAITING_MEMORY = 96 * 2**20
_DECODER_MEMORY = 240 * 2**20
"""Memory in bytes for buffered frames, and for the reference frames of all parallel decoders."""
_FRAMES_PER_DECODER = 20
"""Reference frames per decoder: H.264 and HEVC have at most 16, and some frames are in flight."""

T = TypeVar("T")


class PyavReader(VideoReader):
    """See :class:`~smolvideo.readers.base.VideoReader`.

    ``part`` holds the file's clock and key frames if they are known. With ``joined``, only that
    part of the file is read, and times are on the continued clock; ``followed`` means that another
    part comes after it.

    Raises:
        ReaderError: the file cannot be opened, has no video stream, or none of its frames can be
            decoded.
    """

    name = "pyav"

    def __init__(
        self,
        path: Path,
        part: Part | None = None,
        *,
        joined: bool = False,
        followed: bool = False,
    ) -> None:
        self._path = path
        self._part = part if joined else None
        self._key_frames = part.key_frames if part is not None else None
        self._clock = part
        self._followed = followed
        self._times: list[float] | None = None
        self._repeated = 0
        self._keys: list[float] | None = None
        self._video = VideoStream(path, part.byte_range if part is not None and joined else None)
        # With frame threads, damage flags of frames come late; errors do not.
        self._cursor = ForwardDecoder(
            lambda threads: self._video.open(threads, strict=threads is None)
        )
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._cursor.close()

    def seconds_of(self, part: Part) -> float:
        """Return when the first frame of a part appears, on the player's clock."""
        return float(part.near(self._origin).first - self._origin)

    def frame_times(self) -> list[float]:
        if self._times is None:
            packets = self._read_packets(
                lambda index: read_all_packets(self._video.container, index)
            )
            self._times = self._shown_times(packets)
        return list(self._times)

    def probe(self) -> Probe:
        """Return the reference values that other readers of this file must reproduce."""
        shown = self.metadata
        return Probe(self._unsupported_features(), shown.width, shown.height, self.frame_times())

    def _unsupported_features(self) -> str:
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
        if self._keys is None:
            known = self._known_keys()
            if known is None:
                keys = self._read_packets(
                    lambda index: read_key_times(self._video.container, index)
                )
            else:
                keys = [ticks * self._tick for ticks in known[0]]
            times = (round(time - self._origin, 6) + 0.0 for time in keys)
            self._keys = [time for time in times if time >= self._first - self._tolerance]
        return list(self._keys) or [self._first]

    def _known_keys(self) -> tuple[list[int], list[int]] | None:
        """Return PTS (in time-base units) and byte positions of the key frames, from the search for
        clock discontinuities; None if it did not find them, or for another stream."""
        if self._clock is None or self._key_frames is None or not self._is_their_stream:
            return None
        shift = self._clock.near(self._starts).first - self._clock.first
        ticks = np.rint((self._key_frames.shown + shift) / self._tick).astype(np.int64)
        positions = self._key_frames.positions
        if self._part is not None:
            positions = positions - self._part.byte_range.start + self._part.byte_range.head_bytes
        return ticks.tolist(), positions.tolist()

    def text_track(self) -> list[SubtitleEvent]:
        return self._read_packets(
            lambda _: read_text_track(self._video.container, self._origin, self._video.encrypted)
        )

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        shape = self._shape.fit_within(max_side)
        last: Frame | None = None
        last_ticks: int | None = None
        for decoded in self._decoded_at(require_ascending(seconds), keyframes=keyframes):
            if last is None or decoded.pts != last_ticks:
                last = Frame(
                    self._image(decoded, shape),
                    self._seconds(decoded.pts),
                    self._cursor.damage_of(decoded),
                )
                last_ticks = decoded.pts
            yield last

    def _decoded_at(self, seconds: list[float], *, keyframes: bool) -> Iterator[Any]:
        """Yield the decoded frame on screen at each time; nothing for times lost to damage.

        GOPs found by the index come from the parallel decoders, the rest from the forward decoder.
        """
        ticks = [max(self._ticks(time), self._first_ticks) for time in seconds]
        with contextlib.closing(self._by_segments(ticks, keyframes=keyframes)) as segmented:
            next_index, decoded = next(segmented, (len(ticks), None))
            for number, tick in enumerate(ticks):
                if number < next_index:
                    frame = self._decode_forward(tick, keyframes=keyframes)
                else:
                    frame = decoded
                    next_index, decoded = next(segmented, (len(ticks), None))
                if frame is not None:
                    yield frame

    def _decode_forward(self, tick: float, *, keyframes: bool) -> Any | None:
        if keyframes:
            keys = [self._ticks(time) for time in self.key_frame_times()]
            tick = max((key for key in keys if key <= tick), default=self._first_ticks)
        return self._cursor.frame_at(tick)

    def _by_segments(self, ticks: list[float], *, keyframes: bool) -> Generator[tuple[int, Any]]:
        """Yield ``(index in ticks, frame)``, ascending, for what the key-frame index can locate."""
        if not ticks or self._cursor.untimed:
            return
        container, stream = self._video.open()
        known = self._known_keys()
        with container:
            if known is not None:
                segments: list[Gop] | None = plan_by_positions(*known, ticks)
            else:
                segments = plan_gops(container, stream, ticks)
        if segments is None:
            return
        lanes, threads, max_buffered = self._division(stream, segments, keyframes=keyframes)
        side_by_side = ParallelSegmentDecoder(
            lambda: self._video.open(threads, strict=True),
            decode_key_frame if keyframes else decode_gop,
            segments,
            lanes=lanes,
            max_buffered=max_buffered,
        )
        yield from side_by_side.frames()

    def _division(
        self, stream: Any, segments: Sequence[Gop], *, keyframes: bool
    ) -> tuple[int, int, int]:
        """Return the number of parallel decoders, threads per decoder, and buffered frames per
        GOP."""
        frame_bytes = 3 * stream.width * stream.height  # 4:2:0 in 10 bits, or 4:4:4 in 8
        cores = usable_cores()
        memory = _DECODER_MEMORY // (_FRAMES_PER_DECODER * frame_bytes)
        lanes = max(1, min(cores, memory, len(segments)))
        waiting = max(2, _WAITING_MEMORY // frame_bytes)
        max_buffered = max(2, waiting // (2 * lanes))
        max_wanted = max(len(segment.wanted) for segment in segments)
        # With few GOPs, or more frames per GOP than buffers, decoders would wait for each other.
        if lanes > 1 and not keyframes and (len(segments) < 2 * lanes or max_wanted > max_buffered):
            lanes, max_buffered = 1, waiting
        return lanes, max(1, decoding_threads(stream.width * stream.height) // lanes), max_buffered

    def _ticks(self, time: float) -> float:
        return float((time + self._tolerance + self._origin) / self._tick)

    def _image(self, decoded: Any, shape: DisplayGeometry) -> Images:
        import av

        try:
            return to_display_rgb(decoded, shape)
        except (av.error.FFmpegError, ValueError) as error:
            raise ReaderError(
                f"`{self._path.name}` has pictures that cannot be turned into RGB "
                f"({decoded.format.name})"
            ) from error

    def _seconds(self, ticks: int) -> float:
        """Convert PTS to the player's clock, rounded to microseconds (so that -1e-15 becomes 0)."""
        return float(round(ticks * self._tick - self._origin, 6) + 0.0)

    def _prepare(self) -> None:
        container, stream = self._cursor.container, self._cursor.stream
        first = self._cursor.first()
        if first is None:
            self._video.refuse_if_encrypted()
            raise ReaderError(
                f"no decodable video frames in `{self._path.name}` ({stream.codec_context.name})",
                hint="the file is truncated; fetch it again" if is_cut(self._path) else None,
            )
        check_frame_size(first.width, first.height, self._path.name)
        self._shape = display_geometry(first, stream.sample_aspect_ratio)
        check_frame_size(self._shape.width, self._shape.height, self._path.name)
        self._tick = float(stream.time_base)
        # Tolerate the rounding of computed times by half a tick, at most half a millisecond.
        self._tolerance = min(max(self._tick / 2, _ROUNDED), 0.0005)
        # The origin is what the player shows as 0:00; for a part, a point of the continued clock.
        starts = container.start_time
        self._starts = starts / 1e6 if starts is not None else first.pts * self._tick
        self._origin = self._starts
        ids = None if self._key_frames is None else self._key_frames.stream_id
        self._is_their_stream = ids in (None, stream.id)
        self._begins = 0.0
        if self._part is not None and self._part.starts_at is not None:
            origin = self._part.near(self._origin).first - self._part.starts_at
            self._begins = self._origin - origin
            self._origin = origin
        self._first, self._first_ticks = self._seconds(first.pts), first.pts
        if self._part is not None:
            # Frames before the part's first are only references for the ones after them.
            begins = self.seconds_of(self._part)
            if begins > self._first + self._tolerance:
                self._first, self._first_ticks = begins, round(self._ticks(begins))
        self.metadata = self._read_metadata(container, stream)

    def _read_metadata(self, container: Any, stream: Any) -> VideoMetadata:
        # The end: by the header, by the last packets, and by the end of the file.
        claimed, clock = self._claimed_seconds(container), self._clock
        is_small = self._path.stat().st_size <= _SMALL_FILE
        claimed_end = None if claimed is None else claimed + self._origin
        sought = None if is_small else claimed_end
        packets = self._read_packets(
            lambda index: read_last_packets(self._video.container, index, sought)
        )
        last = self._first if packets is None else round(packets.last_frame - self._origin, 6)
        end = last if packets is None else packets.end - self._origin
        if clock is not None and clock.frame_seconds > _SLOW and claimed is not None:
            # FFmpeg guesses the duration of the last image of a slide show.
            end = max(end, last + clock.frame_seconds)
            claimed = max(claimed, end)
        ending = self._find_ending(packets, claimed_end)
        broke_off = ending.truncated or (claimed is not None and end < claimed * 0.95 - 0.5)
        goes_on = claimed is not None and last >= claimed
        duration = end if claimed is None or broke_off or goes_on else claimed
        # The rate and the number of frames: the header's, unless they contradict the packets.
        rate: float | None = float(stream.average_rate or 0)
        count = None if broke_off else visible_frames(stream)
        if packets is not None and packets.times is not None:
            self._times = self._shown_times(packets)
            measured = rate_of(self._times, self._repeated)
            # FFmpeg reports 25 fps for raw streams, whatever they state.
            if claimed is None and measured and rate and abs(measured - rate) > _LYING_RATE * rate:
                rate = measured
        if not rate or not 0 < rate <= _MAX_FPS:
            rate = rate_of(self.frame_times(), self._repeated)
        if self._times is not None:
            count = len(self._times)
        elif (
            count is not None
            and rate
            and abs(count - 1 - (last - self._first) * rate) > (2 + _MAX_COUNT_MISMATCH * count)
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
            comment=_comment(container.metadata),
            first_pts_seconds=max(self._first, 0.0),
            last_pts_seconds=max(last, self._first),
            gaps_seconds=() if clock is None else clock.gaps_from(self.seconds_of(clock)),
            truncated=ending.truncated,
            claimed_seconds=ending.claimed(end, claimed),
            unread_bytes=ending.unread_bytes,
        )

    def _claimed_seconds(self, container: Any) -> float | None:
        """Return the end that the header of the file, or its part, claims, in seconds."""
        if self._clock is not None and (self._followed or self._clock.sound_jumps):
            # FFmpeg's estimate of the end may already be on the next part's clock.
            return self.seconds_of(self._clock) + self._clock.seconds
        return container.duration / 1e6 + self._begins if container.duration else None

    def _find_ending(self, packets: StreamEnd | None, claimed_end: float | None) -> Ending:
        """Return what is known of the end of the file; an empty ``Ending`` unless this is its last
        part."""
        if self._followed:
            return Ending()
        if self._part is not None and packets is not None and packets.behind is not None:
            byte_range = self._part.byte_range
            last_byte_end = packets.behind - byte_range.head_bytes + byte_range.start
            packets = replace(packets, behind=last_byte_end)
        return find_ending(self._path, self._video.container, packets, self._origin, claimed_end)

    def _read_packets(self, read: Callable[[int], T]) -> T:
        import av

        assert self._video.index is not None
        try:
            return read(self._video.index)
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_open(self._path) from error

    def _shown_times(self, packets: StreamEnd | None) -> list[float]:
        """Return packet times on the player's clock from the first decodable frame on."""
        times = () if packets is None or packets.times is None else packets.times
        self._repeated = 0 if packets is None else packets.repeated
        shown = [round(time - self._origin, 6) + 0.0 for time in times]
        return [time for time in shown if time >= self._first - self._tolerance] or [self._first]


def _comment(tags: Mapping[str, str]) -> str:
    """Return the comment of a container; Matroska's tags are in capitals."""
    return next((value for name, value in tags.items() if name.lower() == "comment"), "")
