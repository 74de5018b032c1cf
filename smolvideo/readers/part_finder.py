"""Finds the parts of a file that are on one clock each, by container format.

ts_parts.py    MPEG transport streams
flv_tags.py    Flash Video
joined_mp4.py  MP4, fragmented or concatenated
file_walk.py   files of all other formats, concatenated
this module    MPEG program streams (VOB) and raw MPEG-4 video, by FFmpeg's demuxer; the lead of a
               part of a program stream: the packs its first frames refer to, on its clock

Formats: ISO/IEC 13818-1, 2.5.3 (packs), 2.4.3.6 (PES); ISO/IEC 11172-1, 2.4.3 (MPEG-1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smolvideo.readers import joined_mp4
from smolvideo.readers.discontinuities import (
    Lead,
    Part,
    Stamps,
    find_breaks,
    find_lead,
    is_discontinuous,
    make_part,
)
from smolvideo.readers.elements import Format
from smolvideo.readers.encryption import encryption_in, video_encryption
from smolvideo.readers.ffmpeg_input import ByteRange, open_container
from smolvideo.readers.file_walk import (
    Flv,
    Mp4,
    Transport,
    find_byte_ranges,
    find_following,
    format_at,
)
from smolvideo.readers.flv_tags import find_flv_parts
from smolvideo.readers.packet_times import (
    demux_tolerant,
    nominal_seconds,
    packet_pts,
)
from smolvideo.readers.stream_formats import Mpeg4, ProgramStream
from smolvideo.readers.ts_packets import layout_of, shift_stamp
from smolvideo.readers.ts_parts import find_transport_parts

_PACK, _END = 0xBA, 0xB9
_VIDEO = range(0xE0, 0xF0)


def read_program_lead(file: BinaryIO, lead: Lead) -> bytes:
    """Return the packs of a lead, with the time stamps of their video packets shifted."""
    ends = [*lead.positions[1:], lead.end]
    found = []
    for start, end, seconds in zip(lead.positions, ends, lead.shifts, strict=True):
        file.seek(start)
        found.append(_moved(bytearray(file.read(end - start)), round(seconds * 90_000)))
    return b"".join(found)


def _moved(data: bytearray, ticks: int) -> bytes:
    offset = 0
    while (offset := data.find(b"\0\0\1", offset)) >= 0 and offset + 20 <= len(data):
        code = data[offset + 3]
        if code == _PACK:
            offset += 14 + (data[offset + 13] & 7) if data[offset + 4] & 0xC0 == 0x40 else 12
        elif code <= _END:  # a start code inside a payload
            offset += 4
        else:
            if code in _VIDEO:
                for at in _stamps_of(data, offset + 6):
                    shift_stamp(data, at, ticks)
            offset += 6 + int.from_bytes(data[offset + 4 : offset + 6], "big")
    return bytes(data)


def _stamps_of(data: bytearray, offset: int) -> list[int]:
    """Return the offsets of the time stamps in a PES packet whose flags begin at ``offset``."""
    if data[offset] & 0xC0 == 0x80:
        flags, first = data[offset + 1], offset + 3
        return [first, first + 5][: {0x80: 1, 0xC0: 2}.get(flags & 0xC0, 0)]
    while offset < len(data) and data[offset] == 0xFF:  # MPEG-1: stuffing, a buffer's size, stamps
        offset += 1
    if offset + 12 > len(data):
        return []
    offset += 2 if data[offset] & 0xC0 == 0x40 else 0
    return [offset, offset + 5][: {0x20: 1, 0x30: 2}.get(data[offset] & 0xF0, 0)]


_HEAD = 4096
_CODES = {"mpeg": ProgramStream.magic, "m4v": Mpeg4.magic}
"""Start codes of a pack (ISO/IEC 13818-1, 2.5.3.4), and of raw MPEG-4 video (14496-2, 6.2.1)."""
_BY_CLOCK = (Transport, Flv, ProgramStream, Mpeg4)
"""Formats that are split where the clock jumps, which noise may do."""
_RAW = {"h261", "h263", "vc1", "vvc", "evc", "dirac", "cavsvideo", "avs2", "avs3", "ipu"}
"""FFmpeg's demuxers of raw video that file_walk.py does not know by its first bytes."""
_REORDERED = 3
"""Packets of raw streams within which FFmpeg can assign a decoding time to the wrong packet."""
_CLAIMING = ("matroska", "mov")
"""Demuxers that report the duration stated in the header."""
_LEAST, _SMALL = 1024, 2**16
"""Minimum bytes after the end of a file to be called a part, and those that are searched for others
than zeros."""
_FRAMES_PER_PART = 3
"""Minimum average frames per part; with fewer, the breaks are noise and are ignored."""


def find_parts(path: Path) -> list[Part]:
    """Return the parts of a local file that are on one clock each, in order.

    Empty for formats with an index or without a clock, and if there is nothing to split. If only
    that is reliable, the header of every packet is read.

    Raises OSError if the file cannot be read.
    """
    return list(_survey(path)[0])


def find_end(path: Path) -> int | None:
    """Return the byte at which a local file ends according to its structure: beyond the file size
    if it is truncated, before it if other data follow; None if the structure does not state it.

    Raises OSError if the file cannot be read.
    """
    return _survey(path)[1]


def _survey(path: Path) -> tuple[tuple[Part, ...], int | None]:
    state = path.stat()
    return _survey_of(path, (state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=8)
def _survey_of(path: Path, state: tuple[int, int]) -> tuple[tuple[Part, ...], int | None]:
    """Survey a file; ``state`` (size and modification time) is part of the cache key."""
    import av

    try:
        parts, end = _read_survey(path, state[0])
    except av.error.FFmpegError:
        return (), None  # opening the file reports the error
    return tuple(parts), end


def _read_survey(path: Path, size: int) -> tuple[list[Part], int | None]:
    """Find the parts of files joined in one, each run of files of one format on its own."""
    runs: list[_Run] = []
    with path.open("rb") as file:
        kind = format_at(file, 0, size + _HEAD)
        begin = 0
        end: int | None = None
        if kind is None and (runs := _runs_after_raw(path, file, size)):
            begin = runs[0].byte_ranges[0].end
            kind = format_at(file, begin, size)
        while kind is not None:
            run, end = _read_run(path, file, kind, begin, size)
            runs.append(run)
            following = None if end is None else format_at(file, end, size)
            if end is not None and following is None and kind.is_exact and end + _LEAST < size:
                file.seek(end)
                if any(file.read(_SMALL)):  # no padding
                    runs.append(_Run([], []))
                    run.byte_ranges[-1] = replace(run.byte_ranges[-1], end=end)
                    end = size
            kind = following
            begin = end or size
    if len(runs) == 1:
        run = runs[0]
        return run.parts or (
            _measured(path, run.byte_ranges) if len(run.byte_ranges) > 1 else []
        ), end
    parts: list[Part] = []
    lost = False
    for run in runs:
        found = run.parts or _measured(path, run.byte_ranges)
        if found and lost:
            found[0] = replace(found[0], lost_before=True)
        lost = not found
        if parts and lost:
            parts[-1] = replace(parts[-1], lost_after=True)
        parts += found
    return parts, end


@dataclass(frozen=True)
class _Run:
    """Files of one format in a row: their parts, if the format has a search for them that is not
    FFmpeg's, and their byte ranges otherwise."""

    parts: list[Part]
    byte_ranges: list[ByteRange]


def _read_run(
    path: Path, file: BufferedReader, kind: type[Format], begin: int, size: int
) -> tuple[_Run, int | None]:
    """Return the files of one format from ``begin`` on, and where they end by their structure; None
    if it does not tell."""
    byte_ranges = [ByteRange(begin, size, kind.demuxer)]
    parts: list[Part] = []
    end: int | None
    if kind is Transport:
        file.seek(begin)
        layout = layout_of(file.read(_HEAD))
        assert layout is not None
        parts, end = find_transport_parts(
            path, layout, lambda: _best_stream_id(path, byte_ranges[0]), begin, size
        )
    elif kind is Flv:
        parts, end = find_flv_parts(path, begin, size)
    elif kind is Mp4:
        byte_ranges, end = _files_of_mp4(file, begin, size)
    else:
        byte_ranges, end = find_byte_ranges(file, size, kind, begin)
    stop = size
    if end is not None and format_at(file, end, size) is not None:
        stop = end
        byte_ranges[-1] = replace(byte_ranges[-1], end=stop)
    if kind.demuxer in _CODES and len(byte_ranges) == 1:
        parts = _find_program_parts(path, kind.demuxer, begin, stop)
        end = None if stop == size else stop
    if kind in _BY_CLOCK or any(one.head for one in byte_ranges):
        parts = _without_noise(parts)
    return _Run(parts, byte_ranges), end


def _files_of_mp4(file: BinaryIO, begin: int, size: int) -> tuple[list[ByteRange], int]:
    """Return the byte ranges of MP4 files from ``begin`` on, and the end that the last one states,
    up to a file of another format, after which the search for the next MP4 file may have gone."""
    byte_ranges, end = joined_mp4.find_byte_ranges(file, size, begin)
    for index, one in enumerate(byte_ranges[:-1]):
        # A part split off by its clock has no header, hence no stated end.
        if not one.head and not byte_ranges[index + 1].head:
            own = joined_mp4.find_byte_ranges(file, one.end, one.start)[1]
            if format_at(file, own, one.end) is not None:
                return [*byte_ranges[:index], replace(one, end=own)], own
    return byte_ranges, end


def _best_stream_id(path: Path, byte_range: ByteRange) -> int:
    """Return the id of FFmpeg's best video stream."""
    with open_container(path, byte_range if byte_range.start else None) as container:
        best = container.streams.best("video")
        return int(best.id) if best is not None else 0


def _without_noise(parts: list[Part]) -> list[Part]:
    frames = sum(part.num_frames for part in parts)
    is_noise = len(parts) * _FRAMES_PER_PART > max(frames, 2 * _FRAMES_PER_PART)
    return [] if is_noise else parts


def _runs_after_raw(path: Path, file: BinaryIO, size: int) -> list[_Run]:
    """Return raw video in a format without a header as a run of its own, if another file follows
    it."""
    with open_container(path) as container:
        demuxer = str(container.format.name)
    following = find_following(file, 1, size) if demuxer in _RAW else None
    return [] if following is None else [_Run([], [ByteRange(0, following, demuxer)])]


def _find_program_parts(path: Path, demuxer: str, begin: int, end: int) -> list[Part]:
    """Return the parts on one clock of the bytes ``begin`` to ``end``; empty for a single one."""
    code = _CODES[demuxer]
    whole = not begin and end == path.stat().st_size
    stamps, others, _ = _read_stamps(path, None if whole else ByteRange(begin, end, demuxer))
    stamps, others = (replace(one, positions=one.positions + begin) for one in (stamps, others))
    starts = [begin]
    with path.open("rb") as file:
        # Near a discontinuity FFmpeg makes up presentation times, but not decoding times.
        stamps = replace(stamps, shown=stamps.decoded)
        for index in find_breaks(stamps, others):
            near = index - (_REORDERED if demuxer == "m4v" else 1)
            before, first = int(stamps.positions[max(0, near)]), int(stamps.positions[index])
            file.seek(before)
            found = file.read(first - before + len(code)).rfind(code)
            starts.append(before + found if found > 0 else first)
    if len(starts) < 2:
        return []
    parts = _measured_program(path, stamps, [*starts, end], demuxer)
    joints = [
        part.byte_range.start for before, part in pairwise(parts) if is_discontinuous(before, part)
    ]
    if len(joints) < len(parts) - 1:
        parts = _measured_program(path, stamps, [begin, *joints, end], demuxer)
    return _with_leads(path, parts, stamps) if demuxer == "mpeg" else parts


def _with_leads(path: Path, parts: list[Part], stamps: Stamps) -> list[Part]:
    """Prepend the packets from the last key frame to parts of a program stream that begin within a
    GOP."""
    bounds = np.searchsorted(stamps.positions, [part.byte_range.start for part in parts])
    ends = [*map(int, bounds), len(stamps)]
    within = [stamps.within(*bounds_of_part) for bounds_of_part in pairwise(ends)]
    keys = [one.keys for one in within]
    parts = [
        replace(part, leans=index > 0 and own is not None and len(own) > 0 and not own[0])
        for index, (part, own) in enumerate(zip(parts, keys, strict=True))
    ]
    with path.open("rb") as file:
        for index, part in enumerate(parts):
            lead = find_lead(parts, within, index) if index else None
            if lead is not None:
                byte_range = replace(part.byte_range, head=read_program_lead(file, lead))
                parts[index] = replace(part, byte_range=byte_range)
    return parts


def _measured_program(
    path: Path, stamps: Stamps, bounds: Sequence[int], demuxer: str
) -> list[Part]:
    return _measured(path, [ByteRange(*ends, demuxer) for ends in pairwise(bounds)], stamps)


def _measured(
    path: Path, byte_ranges: Sequence[ByteRange], known: Stamps | None = None
) -> list[Part]:
    """Return the parts with times from demuxing each on its own: next to a discontinuity, FFmpeg
    makes up times.

    A part without a key frame cannot be read alone; its stamps are taken from ``known``. Parts
    without video, or with encrypted video, are left out and marked as lost on their neighbours.
    """
    import av

    parts: list[Part] = []
    lost = False
    for byte_range in byte_ranges:
        others, claimed = _stamps([]), 0.0
        try:
            is_locked = video_encryption(encryption_in(path, byte_range)) is not None
            stamps = _stamps([])
            if not is_locked:
                stamps, others, claimed = _read_stamps(path, byte_range)
        except av.error.FFmpegError:
            stamps = _stamps([])
        if not len(stamps) and known is not None:
            ends = np.searchsorted(known.positions, (byte_range.start, byte_range.end))
            stamps = known.within(*map(int, ends))
        if len(stamps):
            # FFmpeg's own index is better than these approximate positions.
            part = make_part(
                byte_range, replace(stamps, keys=None), wraps=byte_range.demuxer == "mpeg"
            )
            lasting = max(part.seconds, float(np.ptp(others.shown)) if len(others) else 0.0)
            breaks_off = byte_range.demuxer in _CLAIMING and lasting < 0.95 * claimed - 0.5
            parts.append(replace(part, lost_before=lost, breaks_off=breaks_off))
        lost = not len(stamps)
    if parts and lost:
        parts[-1] = replace(parts[-1], lost_after=True)
    return parts


def _read_stamps(path: Path, byte_range: ByteRange | None = None) -> tuple[Stamps, Stamps, float]:
    """Return the stamps of FFmpeg's best video stream, those of all audio, and the duration in
    seconds that the header states (0 if none)."""
    watched: list[tuple[float, float, int, bool]] = []
    others: list[tuple[float, float, int, bool]] = []
    untimed: list[tuple[int, bool]] = []
    position = 0
    with open_container(path, byte_range) as container:
        best = container.streams.best("video")
        if best is None:
            return _stamps([]), _stamps([]), 0.0
        for packet in demux_tolerant(container, best, *container.streams.audio):
            shown = packet_pts(packet)
            position = max(position, packet.pos or 0)
            if shown is None and packet.size and packet.stream_index == best.index:
                untimed.append((position, packet.is_keyframe))
            if shown is None or not packet.size or packet.is_discard:
                continue
            decoded = packet.dts if packet.dts is not None else shown
            tick = float(packet.time_base)
            found = watched if packet.stream_index == best.index else others
            found.append((decoded * tick, shown * tick, position, packet.is_keyframe))
        claimed = (container.duration or 0) / 1e6
        if untimed and not watched:  # a raw stream: frames at the nominal rate
            step = nominal_seconds(best)
            watched = [
                (index * step, index * step, at, is_key)
                for index, (at, is_key) in enumerate(untimed)
            ]
    return _stamps(watched), _stamps(others), claimed


def _stamps(found: Sequence[tuple[float, float, int, bool]]) -> Stamps:
    table = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    keys = table[:, 3].astype(np.bool_)
    return Stamps(table[:, 0], table[:, 1], table[:, 2].astype(np.int64), keys)
