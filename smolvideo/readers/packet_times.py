"""Stream times (first, last, key frames, duration) from a demuxing pass, without decoding.

Packets are read because headers are unreliable: fragmented files claim a day, truncated recordings
claim their planned length, and live recordings claim none.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from smolvideo.readers.ipc import beat

_END_SEEK_BACKOFFS = (0.0, 2.0, 15.0)
"""Seconds before the claimed end to which to seek for the last packets, in order of trial."""
_MAX_REORDERING = 1.0
"""Seconds by which packet order can deviate from presentation order."""
_MAX_FAILURES = 100
_SOUGHT_BY_HALVES = {"mpegts", "mpeg", "ogg", "asf", "wtv", "rm"}
"""FFmpeg's demuxers that seek by bisection (``read_timestamp``), without an index."""
_INDEX_PACKET_LIMIT = 20_000
"""Frames from which on reading all packets takes a second or more."""
_ABSURD_GAP = 365 * 86400.0
_STRAY_GAP = 86400.0
"""Gap in seconds between two frames that is never real, and one that is not if only ``_FEW_STRAY``
frames, or a share of ``_STRAY_SHARE``, are on one side of it."""
_FEW_STRAY, _STRAY_SHARE = 2, 0.01
_RATE_OF_RAW_STREAMS = 25
"""Frames per second of streams that state no rate; FFmpeg's own assumption."""

Open = Callable[[], Any]
"""Opens a new container for the file."""


@dataclass(frozen=True)
class StreamEnd:
    """The end of a stream, in seconds of the container's own clock.

    ``last_frame`` is the presentation time of the last frame, ``end`` the end of the longest
    stream, ``longest_step`` the longest gap between two frames. ``from_key``: the first frame read
    is a key frame. ``repeated``: number of empty packets, which repeat the previous frame.
    ``behind``: the byte offset after the last packet, None if unknown. ``times``: presentation
    times of all frames, None unless all packets were read.
    """

    last_frame: float
    end: float
    longest_step: float
    from_key: bool
    repeated: int
    behind: int | None
    times: tuple[float, ...] | None = None


def demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """Yield the packets of the streams, and one empty packet per stream at the end (flush)."""
    # At the end PyAV raises IndexError for streams that FFmpeg only met while demuxing (FLV).
    with contextlib.suppress(IndexError):
        yield from container.demux(*streams)


def demux_tolerant(container: Any, *streams: Any) -> Iterator[Any]:
    """Demux to the end, skipping corrupt packets; ``_MAX_FAILURES`` in a row end it."""
    import av

    failures = 0
    while failures < _MAX_FAILURES:
        try:
            for packet in demuxed(container, *streams):
                failures = 0
                beat()
                yield packet
            return
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            failures += 1


def nominal_seconds(stream: Any) -> float:
    """Return the duration of one frame of a stream without time stamps."""
    return 1 / float(stream.guessed_rate or stream.average_rate or _RATE_OF_RAW_STREAMS)


def packet_pts(packet: Any) -> int | None:
    """Return the packet's PTS in its time base, its DTS if there is no PTS, None if neither."""
    ticks: int | None = packet.pts if packet.pts is not None else packet.dts
    return ticks


def read_last_packets(open_: Open, stream_index: int, header_end: float | None) -> StreamEnd | None:
    """Seek near the claimed end and read the rest; if that fails, read all packets. None if there
    are no packets."""
    import av

    if header_end is not None:
        with open_() as container:
            stream = container.streams[stream_index]
            for back in _END_SEEK_BACKOFFS:
                try:
                    container.seek(
                        int((header_end - back) / float(stream.time_base)), stream=stream
                    )
                except av.error.FFmpegError:
                    continue
                times, last = _read_on(container, stream)
                # Packets are in decoding order: a few of them may not include the last shown frame.
                if last is not None and (
                    last.from_key or max(times) - min(times) > _MAX_REORDERING
                ):
                    return last
    return read_all_packets(open_, stream_index)


def read_all_packets(open_: Open, stream_index: int) -> StreamEnd | None:
    """Read the file once from the beginning. None if there are no frames."""
    with open_() as container:
        times, last = _read_on(container, container.streams[stream_index])
    return None if last is None else replace(last, times=tuple(sorted(set(times))))


def read_key_times(open_: Open, stream_index: int) -> list[float]:
    """Return the presentation times of key frames, in seconds of the container's clock.

    Long files with an index are read from it, which is exact where the frame rate is constant.
    FFmpeg's own filter for key frames (``discard``) gives wrong times in MP4.
    """
    with open_() as container:
        stream = container.streams[stream_index]
        tick = float(stream.time_base)
        index = stream.index_entries
        if len(index) > _INDEX_PACKET_LIMIT and has_index(container):
            delay = index_to_pts_offset(container, stream) or 0
            return [(entry.timestamp + delay) * tick for entry in index if entry.is_keyframe]
        found = {
            ticks * tick
            for packet in demux_tolerant(container, stream)
            if packet.size and packet.is_keyframe and not packet.is_discard
            if (ticks := packet_pts(packet)) is not None
        }
    return sorted(found)


def has_index(container: Any) -> bool:
    """Return whether FFmpeg's index of the file is complete.

    For formats that seek by bisection it only holds the packets met so far, and marks frames as key
    frames that are none.
    """
    return _SOUGHT_BY_HALVES.isdisjoint(container.format.name.split(","))


def index_to_pts_offset(container: Any, stream: Any) -> int | None:
    """Return the offset from index times to presentation times, in the stream's time base, from the
    next packet (the index of MP4 holds decoding times). None if packets carry no times."""
    packet = next((packet for packet in demuxed(container, stream) if packet.size), None)
    if packet is None or packet.pts is None:
        return None
    if packet.dts is None or stream.index_entries[0].timestamp == packet.pts:
        return 0
    return max(0, int(packet.pts) - int(packet.dts))


def _read_on(container: Any, stream: Any) -> tuple[list[float], StreamEnd | None]:
    """Read the video stream and all audio to the end. Return the presentation times of the frames
    of ``stream``, in seconds of the container's clock, and the stream's end; None without
    frames."""
    from_key: bool | None = None
    times: list[float] = []
    untimed = repeated = 0
    begin: float | None = None
    end = -math.inf
    last_byte_end: int | None = None
    sounds = [other for other in container.streams.audio if other.index != stream.index]
    for packet in demux_tolerant(container, stream, *sounds):
        ticks = packet_pts(packet)
        if not packet.size and ticks is None:
            continue
        if packet.size and packet.pos is not None:
            # The byte after the last packet, whatever its time stamp.
            last_byte_end = max(last_byte_end or 0, packet.pos + packet.size)
        if ticks is None:
            untimed += packet.stream_index == stream.index
            continue
        tick = float(packet.time_base)
        start = ticks * tick
        begin = start if begin is None else begin
        if not start - begin < _ABSURD_GAP:
            continue
        end = max(end, start + (packet.duration or 0) * tick)
        if packet.stream_index == stream.index and not packet.size:
            repeated += 1
        elif packet.stream_index == stream.index:
            from_key = packet.is_keyframe if from_key is None else from_key
            if not packet.is_discard:
                times.append(start)
    # Damaged time stamps would extend the video by days.
    sane = without_absurd(times)
    if len(sane) < len(times):
        times, end = sane, sane[-1]
    if untimed and not times:
        # A raw stream (no time stamps): one packet per frame, at the nominal rate.
        times = [index * nominal_seconds(stream) for index in range(untimed)]
        end = untimed * nominal_seconds(stream)
    if not times:
        return [], None
    nominal_step = 1 / float(stream.average_rate) if stream.average_rate else 0.0
    step = max((after - before for before, after in pairwise(sorted(times))), default=nominal_step)
    last = max(times)
    return times, StreamEnd(last, max(end, last), step, bool(from_key), repeated, last_byte_end)


def without_absurd(times: Sequence[float]) -> list[float]:
    """Return the times, ascending, without outliers from damaged time stamps: times years away from
    the others, and small groups of times days away."""
    sane = sorted(times)
    while len(sane) > 1:
        gap, index = max((sane[index] - sane[index - 1], index) for index in range(1, len(sane)))
        few = min(index, len(sane) - index) <= max(_FEW_STRAY, _STRAY_SHARE * len(sane))
        if gap < (_STRAY_GAP if few else _ABSURD_GAP):
            break
        sane = sane[:index] if index > len(sane) - index else sane[index:]
    return sane


def visible_frames(stream: Any) -> int | None:
    """Return the header's frame count, less the frames hidden by an edit list at the beginning."""
    if not stream.frames:
        return None
    index = stream.index_entries
    if len(index) and index[0].is_discard:
        return sum(not entry.is_discard for entry in index)
    return int(stream.frames)


def rate_of(times: Sequence[float], repeated: int = 0) -> float | None:
    """Return the average frame rate, counting ``repeated`` frames between the ``times``. None for a
    single frame."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return (len(times) - 1 + repeated) / (times[-1] - times[0])


def is_still_attachment(stream: Any) -> bool:
    """Return whether a video stream is cover art or embedded thumbnails."""
    import av

    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return bool(stream.disposition & still)
