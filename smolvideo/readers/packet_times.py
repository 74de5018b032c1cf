"""The times of a stream, read from its packets without decoding.

Headers lie: fragmented files claim a day, recordings that broke off claim their planned length,
live recordings claim nothing. The packets do not.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from smolvideo.readers.byte_range import FileSlice, Stretch
from smolvideo.readers.external_references import OPTIONS, format_whitelist
from smolvideo.readers.heartbeat import beat

_END_SEEK_BACKOFFS = (0.0, 2.0, 15.0)
"""Seconds before the end at which the last packets are looked for."""
_MAX_REORDERING = 1.0
"""Seconds by which packets can be out of the order of presentation."""
_MAX_FAILURES = 100
_SOUGHT_BY_HALVES = {"mpegts", "mpeg", "ogg", "asf", "wtv", "rm"}
"""FFmpeg's demuxers that look for a time by ``read_timestamp``."""
_INDEX_PACKET_LIMIT = 20_000
"""Frames from which on reading all packets takes a second and more."""
_ABSURD_GAP = 365 * 86400.0
_STRAY_GAP = 86400.0
"""Seconds between two frames that no recording has; the same where only a few are so far away."""
_FEW_STRAY, _STRAY_SHARE = 2, 0.01
_BUFFER = 2**18
"""Bytes that FFmpeg fetches at once from a part of a file."""
_RATE_OF_RAW_STREAMS = 25
"""Frames per second where nobody says; FFmpeg's own assumption."""

Open = Callable[[], Any]
"""Opens the container that is read."""


@dataclass(frozen=True)
class StreamEnd:
    """``last_frame`` is when the last frame appears, ``end`` when the last stream of all ends
    (seconds of the container's own clock), ``longest_step`` the most between two frames.

    ``from_key`` says whether the first frame read is a key frame, ``repeated`` how many of those
    read are once more the one before them. ``behind`` is the byte after the last packet, None where
    that is not known, and ``times`` when every frame appears, where all packets were read.
    """

    last_frame: float
    end: float
    longest_step: float
    from_key: bool
    repeated: int
    behind: int | None
    times: tuple[float, ...] | None = None


def open_container(path: Path, stretch: Stretch | None = None) -> Any:
    """Open a local file or a stretch of it, and nothing else: a playlist must not make us fetch
    what it names."""
    import av

    # Up to version 18, a tag in an old encoding would otherwise keep the file from being opened.
    lenient = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    options = {**OPTIONS, "format_whitelist": format_whitelist()}
    if stretch is None:
        return av.open(str(path.absolute()), options=options, **lenient)
    return av.open(
        FileSlice(path, stretch),
        format=stretch.demuxer,
        options=options,
        buffer_size=_BUFFER,
        **lenient,
    )


def demuxed(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of some streams, and an empty one of each at the end."""
    # At the end PyAV looks up streams that FFmpeg met on the way (FLV), and does not know them.
    with contextlib.suppress(IndexError):
        yield from container.demux(*streams)


def demux_tolerant(container: Any, *streams: Any) -> Iterator[Any]:
    """Demux to the end; a broken packet is stepped over, a hundred in a row are the end."""
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
    """How long one frame of a stream without time stamps lasts."""
    return 1 / float(stream.guessed_rate or stream.average_rate or _RATE_OF_RAW_STREAMS)


def packet_pts(packet: Any) -> int | None:
    """Presentation time of a packet in its time base; the decoding time where there is no other."""
    ticks: int | None = packet.pts if packet.pts is not None else packet.dts
    return ticks


def read_last_packets(open_: Open, stream_index: int, header_end: float | None) -> StreamEnd | None:
    """Jump near the claimed end and read on; where that fails, read all. None: no packets."""
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
                # Packets come in the order of decoding: a few of them may miss the last frame.
                if last is not None and (
                    last.from_key or max(times) - min(times) > _MAX_REORDERING
                ):
                    return last
    return read_all_packets(open_, stream_index)


def read_all_packets(open_: Open, stream_index: int) -> StreamEnd | None:
    """Read the file once from the beginning."""
    with open_() as container:
        times, last = _read_on(container, container.streams[stream_index])
    return None if last is None else replace(last, times=tuple(sorted(set(times))))


def read_key_times(open_: Open, stream_index: int) -> list[float]:
    """When key frames appear, in seconds of the container's clock.

    Of films by their index, which is exact where frames come at a steady rate; FFmpeg's own way to
    read key frames only (``discard``) gives wrong times in MP4.
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
    """Whether FFmpeg's index of the file is complete, as far as the file was read.

    Of formats that are sought in by halves it holds what was met on the way, and marks as key
    frames what is none.
    """
    return _SOUGHT_BY_HALVES.isdisjoint(container.format.name.split(","))


def index_to_pts_offset(container: Any, stream: Any) -> int | None:
    """What to add to times of the index to get presentation times, from the next packet: MP4 lists
    decoding times. None where packets carry no times."""
    packet = next((packet for packet in demuxed(container, stream) if packet.size), None)
    if packet is None or packet.pts is None:
        return None
    if packet.dts is None or stream.index_entries[0].timestamp == packet.pts:
        return 0
    return max(0, int(packet.pts) - int(packet.dts))


def _read_on(container: Any, stream: Any) -> tuple[list[float], StreamEnd | None]:
    """Read video and sound to the end: when frames of ``stream`` appear, in seconds of the
    container's clock, and what is known of the last; None where no frame is met."""
    from_key: bool | None = None
    times: list[float] = []
    untimed = repeated = 0
    begin: float | None = None
    end = -math.inf
    behind: int | None = None
    sounds = [other for other in container.streams.audio if other.index != stream.index]
    for packet in demux_tolerant(container, stream, *sounds):
        ticks = packet_pts(packet)
        if not packet.size and ticks is None:
            continue
        if packet.size and packet.pos is not None:
            behind = max(behind or 0, packet.pos + packet.size)
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
    sane = without_absurd(times)
    if len(sane) < len(times):
        times, end = sane, sane[-1]
    if untimed and not times:
        # A raw stream: its packets are its frames, at the nominal rate.
        times = [place * nominal_seconds(stream) for place in range(untimed)]
        end = untimed * nominal_seconds(stream)
    if not times:
        return [], None
    usual = 1 / float(stream.average_rate) if stream.average_rate else 0.0
    step = max((after - before for before, after in pairwise(sorted(times))), default=usual)
    last = max(times)
    return times, StreamEnd(last, max(end, last), step, bool(from_key), repeated, behind)


def without_absurd(times: Sequence[float]) -> list[float]:
    """The times, ascending, without those that damaged stamps put years, or few of them days, away
    from the others."""
    kept = sorted(times)
    while len(kept) > 1:
        gap, place = max((kept[place] - kept[place - 1], place) for place in range(1, len(kept)))
        few = min(place, len(kept) - place) <= max(_FEW_STRAY, _STRAY_SHARE * len(kept))
        if gap < (_STRAY_GAP if few else _ABSURD_GAP):
            break
        kept = kept[:place] if place > len(kept) - place else kept[place:]
    return kept


def visible_frames(stream: Any) -> int | None:
    """The header's count, less what an edit list hides at the beginning."""
    if not stream.frames:
        return None
    index = stream.index_entries
    if len(index) and index[0].is_discard:
        return sum(not entry.is_discard for entry in index)
    return int(stream.frames)


def rate_of(times: Sequence[float], repeated: int = 0) -> float | None:
    """Frames per second on average, with those that are ``repeated`` between them; None for a
    single frame."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return (len(times) - 1 + repeated) / (times[-1] - times[0])


def is_still_attachment(stream: Any) -> bool:
    """Whether a video stream is the cover of the file, or thumbnails, and no film."""
    import av

    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return bool(stream.disposition & still)
