"""Finds the parts of a file that are on one clock each, by container format.

ts_parts.py    MPEG transport streams
flv_tags.py    Flash Video
joined_mp4.py  MP4, fragmented or concatenated
elements.py    Matroska, ASF, Ogg and other formats of elements, concatenated
this module    MPEG program streams (VOB) and raw MPEG-4 video, by FFmpeg's demuxer; the lead of a
               part of a program stream: the packs its first frames refer to, on its clock

Formats: ISO/IEC 13818-1, 2.5.3 (packs), 2.4.3.6 (PES); ISO/IEC 11172-1, 2.4.3 (MPEG-1).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smolvideo.readers import elements, joined_mp4
from smolvideo.readers.byte_range import Stretch
from smolvideo.readers.discontinuities import (
    Lead,
    Part,
    Stamps,
    find_breaks,
    find_lead,
    is_discontinuous,
    make_part,
)
from smolvideo.readers.encryption import encryption_in, locks_pictures
from smolvideo.readers.flv_tags import MAGIC, find_flv_parts
from smolvideo.readers.packet_times import demux_tolerant, open_container, packet_pts
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
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"wide", b"skip")
_START_CODES = {b"\x00\x00\x01\xba": "mpeg", b"\x00\x00\x01\xb0": "m4v"}
"""Start codes of a pack (ISO/IEC 13818-1, 2.5.3.4), and of raw MPEG-4 video (14496-2, 6.2.1)."""
_REORDERED = 3
"""Packets of raw streams within which FFmpeg can assign a decoding time to the wrong packet."""
_CLAIMING = ("matroska", "mov")
"""Demuxers that report the duration stated in the header."""
_LEAST = 1024
"""Minimum bytes after the end of a file to look for an appended file of another format."""
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
    frames = sum(part.num_frames for part in parts)
    noise = len(parts) * _FRAMES_PER_PART > max(frames, 2 * _FRAMES_PER_PART)
    return () if noise else tuple(parts), end


def _read_survey(path: Path, size: int) -> tuple[list[Part], int | None]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if (layout := layout_of(head)) is not None:
            parts, end = find_transport_parts(path, layout, lambda: _best_stream_id(path))
        elif head.startswith(MAGIC):
            parts, end = find_flv_parts(path)
        elif (demuxer := _by_start_code(head)) is not None:
            return _find_program_parts(path, demuxer, head[:4]), None
        elif (demuxer := _demuxer_at(file, 0)) is not None:
            stretches, declared = _files_from(file, 0, size, demuxer)
            return _measured(path, stretches) if len(stretches) > 1 else [], declared
        else:
            return [], None
        last = parts[-1].stretch if parts else Stretch(0, size, "")
        first, *following = _with_others(file, last, end)
    if not following or not parts:
        return parts, end
    parts[-1] = replace(parts[-1], stretch=first)
    return [*parts, *_measured(path, following)], size


def _files_from(
    file: BinaryIO, begin: int, size: int, demuxer: str
) -> tuple[list[Stretch], int | None]:
    """Return the byte ranges of all files from ``begin`` on, in this or another format, and where
    the last one ends according to its structure."""
    stretches, end = _files_of(file, begin, size, demuxer)
    found: list[Stretch] = []
    for one in stretches[:-1]:
        # A part split off by its clock has no header, hence no stated end.
        own = one.end if one.head else _files_of(file, one.start, one.end, demuxer)[1]
        found += _with_others(file, one, own)
    last = _with_others(file, stretches[-1], end)
    return [*found, *last], end if len(last) == 1 else size


def _files_of(
    file: BinaryIO, begin: int, size: int, demuxer: str
) -> tuple[list[Stretch], int | None]:
    """Return the byte ranges of files of one format from ``begin`` on, and the end the last one
    states."""
    if demuxer == "mov":
        return joined_mp4.find_stretches(file, size, begin)
    file.seek(begin)
    kind = elements.format_of(file.read(_HEAD))
    if kind is None:
        return [Stretch(begin, size, demuxer)], None
    return elements.find_stretches(file, size, kind, begin)


def _with_others(file: BinaryIO, one: Stretch, end: int | None) -> list[Stretch]:
    """Return a byte range cut at the stated end of its file, with appended files of other formats
    after it."""
    other = None if end is None else _demuxer_at(file, end, one.end)
    if end is None or other is None:
        return [one]
    return [replace(one, end=end), *_files_from(file, end, one.end, other)[0]]


def _demuxer_at(file: BinaryIO, position: int, size: int | None = None) -> str | None:
    """Return FFmpeg's name of the format that begins at ``position``; None if unknown or too close
    to ``size``."""
    if size is not None and position + _LEAST >= size:
        return None
    file.seek(position)
    head = file.read(_HEAD)
    if layout_of(head) is not None:
        return "mpegts"
    if head.startswith(MAGIC):
        return "flv"
    if head[4:8] in _BOXES:
        return "mov"
    if (demuxer := _by_start_code(head)) is not None:
        return demuxer
    kind = elements.format_of(head)
    return None if kind is None else kind.demuxer


def _best_stream_id(path: Path) -> int:
    """Return the id of FFmpeg's best video stream."""
    with open_container(path) as container:
        best = container.streams.best("video")
        return int(best.id) if best is not None else 0


def _by_start_code(head: bytes) -> str | None:
    return _START_CODES.get(head[:4])


def _find_program_parts(path: Path, demuxer: str, code: bytes) -> list[Part]:
    end = path.stat().st_size
    stamps, others, _ = _read_stamps(path)
    starts = [0]
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
        part.stretch.start for before, part in pairwise(parts) if is_discontinuous(before, part)
    ]
    if len(joints) < len(parts) - 1:
        parts = _measured_program(path, stamps, [0, *joints, end], demuxer)
    return _with_leads(path, parts, stamps) if demuxer == "mpeg" else parts


def _with_leads(path: Path, parts: list[Part], stamps: Stamps) -> list[Part]:
    """Prepend the packets from the last key frame to parts of a program stream that begin within a
    GOP."""
    bounds = np.searchsorted(stamps.positions, [part.stretch.start for part in parts])
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
                stretch = replace(part.stretch, head=read_program_lead(file, lead))
                parts[index] = replace(part, stretch=stretch)
    return parts


def _measured_program(
    path: Path, stamps: Stamps, bounds: Sequence[int], demuxer: str
) -> list[Part]:
    return _measured(path, [Stretch(*ends, demuxer) for ends in pairwise(bounds)], stamps)


def _measured(path: Path, stretches: Sequence[Stretch], known: Stamps | None = None) -> list[Part]:
    """Return the parts with times from demuxing each on its own: next to a discontinuity, FFmpeg
    makes up times.

    A part without a key frame cannot be read alone; its stamps are taken from ``known``. Parts
    without video, or with encrypted video, are left out and marked as lost on their neighbours.
    """
    import av

    parts: list[Part] = []
    lost = False
    for stretch in stretches:
        others, claimed = _stamps([]), 0.0
        try:
            is_locked = locks_pictures(encryption_in(path, stretch)) is not None
            stamps = _stamps([])
            if not is_locked:
                stamps, others, claimed = _read_stamps(path, stretch)
        except av.error.FFmpegError:
            stamps = _stamps([])
        if not len(stamps) and known is not None:
            ends = np.searchsorted(known.positions, (stretch.start, stretch.end))
            stamps = known.within(*map(int, ends))
        if len(stamps):
            # FFmpeg's own index is better than these approximate positions.
            part = make_part(stretch, replace(stamps, keys=None), wraps=stretch.demuxer == "mpeg")
            lasting = max(part.seconds, float(np.ptp(others.shown)) if len(others) else 0.0)
            breaks_off = stretch.demuxer in _CLAIMING and lasting < 0.95 * claimed - 0.5
            parts.append(replace(part, lost_before=lost, breaks_off=breaks_off))
        lost = not len(stamps)
    if parts and lost:
        parts[-1] = replace(parts[-1], lost_after=True)
    return parts


def _read_stamps(path: Path, stretch: Stretch | None = None) -> tuple[Stamps, Stamps, float]:
    """Return the stamps of FFmpeg's best video stream, those of all audio, and the duration in
    seconds that the header states (0 if none)."""
    watched: list[tuple[float, float, int, bool]] = []
    others: list[tuple[float, float, int, bool]] = []
    position = 0
    with open_container(path, stretch) as container:
        best = container.streams.best("video")
        if best is None:
            return _stamps([]), _stamps([]), 0.0
        for packet in demux_tolerant(container, best, *container.streams.audio):
            shown = packet_pts(packet)
            position = max(position, packet.pos or 0)
            if shown is None or not packet.size or packet.is_discard:
                continue
            decoded = packet.dts if packet.dts is not None else shown
            tick = float(packet.time_base)
            found = watched if packet.stream_index == best.index else others
            found.append((decoded * tick, shown * tick, position, packet.is_keyframe))
        claimed = (container.duration or 0) / 1e6
    return _stamps(watched), _stamps(others), claimed


def _stamps(found: Sequence[tuple[float, float, int, bool]]) -> Stamps:
    table = np.asarray(found, dtype=np.float64).reshape(-1, 4)
    keys = table[:, 3].astype(np.bool_)
    return Stamps(table[:, 0], table[:, 1], table[:, 2].astype(np.int64), keys)
