"""MPEG transport-stream parts: splits a file into byte ranges that are each on one clock."""

from collections.abc import Callable
from dataclasses import replace
from io import BufferedReader
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smolvideo.readers.discontinuities import (
    JUMP_AHEAD_SECONDS,
    Lead,
    Part,
    Stamps,
    find_breaks,
    find_lead,
    make_part,
)
from smolvideo.readers.encryption import streams_in_map
from smolvideo.readers.ffmpeg_input import ByteRange
from smolvideo.readers.file_walk import FileAfterPackets
from smolvideo.readers.ts_packets import (
    CLOCK,
    PACKET,
    TABLE,
    TICKS_PER_SECOND,
    WRAP,
    Continuity,
    Headers,
    Layout,
    is_other_video,
    is_video,
    packet_ids,
    packet_rows,
    read_headers,
    shift_stamp,
)

_NEXT_TABLES = 500
"""Packets after a PAT within which the PMTs of its programs are searched."""
_MIN_FRAMES = 3
"""Minimum frames of a stream; with fewer, a packet id is taken for damage."""
_SOUND_TYPES = {0x03, 0x04, 0x0F, 0x11, 0x1C, 0x2D, *range(0x80, 0x88)}
"""Stream types of MPEG, AAC, and in private use AC-3, DTS and LPCM (2.4.4.10, table 2-34)."""
_BEHIND = 1.0
"""Maximum seconds by which audio is stored after the frames of its time."""


def find_transport_parts(
    path: Path, layout: Layout, main_pid: Callable[[], int], begin: int, end: int
) -> tuple[list[Part], int]:
    """Return the parts of the file in the bytes ``begin`` to ``end`` that are on one clock, in
    order, and where its last packet ends; files of other formats may follow it.

    Video streams with different packet ids that do not overlap are parts of one recording. If some
    overlap, ``main_pid`` returns the packet id of the one to show. Empty without time stamps.
    """
    search = FileAfterPackets(end, layout.size)
    headers, continuity, last_byte_end = read_headers(path, layout, begin, end, search.find)
    last_byte_end = last_byte_end if search.found is None else search.found
    pictures = is_video(headers.ids)
    videos = headers.where(pictures if pictures.any() else is_other_video(headers.ids))
    # Cut each stream at clock discontinuities.
    runs: list[tuple[int, Stamps]] = []
    for pid in _in_turn(videos, main_pid):
        stamps = _unwrapped(videos.where(videos.pids == pid))
        cuts = [0, *find_breaks(stamps, _beside(headers, pid, stamps)), len(stamps)]
        runs += [(pid, stamps.within(*indices)) for indices in pairwise(cuts)]
    if not runs:
        return [], last_byte_end
    parts = _parts_of(path, layout, headers, runs, begin, min(end, last_byte_end))
    # Exclude audio of another clock after the last frame.
    last_end = _end_of_video(path, layout, headers, *runs[-1])
    if last_end is not None:
        kept = replace(parts[-1].byte_range, end=last_end)
        parts[-1] = replace(parts[-1], byte_range=kept, lost_after=True)
    tables = headers.positions[headers.ids == TABLE]
    parts = [
        replace(
            part,
            sound_jumps=_others_jump(headers, part.byte_range),
            gaps=_gaps_in(continuity, tables, *run),
        )
        for part, run in zip(parts, runs, strict=True)
    ]
    return parts, last_byte_end


def _gaps_in(
    continuity: Continuity, tables: NDArray[np.int64], pid: int, stamps: Stamps
) -> tuple[float, ...]:
    """Return the times of lost packets of stream ``pid`` within a part, in seconds of its clock.

    A counter that restarts after a PAT, as at the beginning of a segment, is no loss.
    """
    first, last = stamps.positions[0], stamps.positions[-1]
    gaps = [gap for gap in continuity.gaps if gap[0] == pid and first < gap[2] <= last]
    found = set()
    for _, before, after in gaps:
        index = int(np.searchsorted(stamps.positions, after, side="right")) - 1
        begins = stamps.positions[index] == after
        if not (begins and np.searchsorted(tables, before) < np.searchsorted(tables, after)):
            found.add(float(stamps.shown[index]))
    return tuple(sorted(found))


def _others_jump(headers: Headers, byte_range: ByteRange) -> bool:
    """Return whether the clock of another stream is discontinuous within a byte range."""
    inside = (headers.positions >= byte_range.start) & (headers.positions < byte_range.end)
    others = headers.where(inside & (headers.ids >= 0) & ~is_video(headers.ids))
    pids = (others.where(others.pids == pid) for pid in np.unique(others.pids))
    return any(find_breaks(_unwrapped(one)) for one in pids)


def _end_of_video(
    path: Path, layout: Layout, headers: Headers, pid: int, stamps: Stamps
) -> int | None:
    """Return where the last packet of stream ``pid`` ends, if the packets after it are on another
    clock or reuse its packet id; None otherwise."""
    last = int(stamps.positions[-1])
    # Packets after the last frame whose time is not near it are on another clock.
    timed = headers.where(headers.ids >= 0)
    after = timed.where(timed.positions > last)
    steps = _centred(after.decoded - round(stamps.decoded[-1] * TICKS_PER_SECOND))
    other = (steps < -_BEHIND * TICKS_PER_SECOND) | (steps > JUMP_AHEAD_SECONDS * TICKS_PER_SECOND)
    # A stream that already runs alongside counts only from its own discontinuity on.
    for one in np.unique(after.pids):
        before = timed.where((timed.pids == one) & (timed.positions <= last))
        own = after.pids == one
        if one == pid:
            other |= own
        elif len(before.positions):  # programs in parallel have a clock each
            joined = _unwrapped(timed.where(timed.pids == one))
            breaks = joined.positions[find_breaks(joined)]
            first = breaks[breaks > last]
            other[own] = after.positions[own] >= first[0] if len(first) else False
    if not other.any():
        return None
    bounds = last, int(after.positions[other][0])
    with path.open("rb") as file:
        return _joint(file, layout, np.empty(0, np.int64), pid, (*bounds, bounds[1]))[0]


def _parts_of(
    path: Path,
    layout: Layout,
    headers: Headers,
    runs: list[tuple[int, Stamps]],
    begin: int,
    end: int,
) -> list[Part]:
    tables = headers.positions[headers.ids == TABLE]
    gaps = [
        (int(before.positions[-1]), int(after.positions[0]))
        for (_, before), (_, after) in pairwise(runs)
    ]
    # The byte range of each part, with the tables to put in front of it.
    with path.open("rb") as file:
        joints = [
            _joint(file, layout, tables, pid, _without_sound_of(headers, pid, gap))
            for (pid, _), gap in zip(runs, gaps, strict=False)
        ]
        first = _first_byte(file, layout, tables, *runs[0]) or begin
        starts = [(first, b""), *((start, head) for _, start, head in joints)]
        ends = [*(last for last, _, _ in joints), end]
        byte_ranges = [
            ByteRange(start, last, "mpegts", head)
            for (start, head), last in zip(starts, ends, strict=True)
        ]
        lost = [first > begin, *(_runs_alone(headers, gap) for gap in gaps)]
        parts = [
            replace(make_part(kept, stamps, wraps=True, stream_id=pid), lost_before=is_lost)
            for (pid, stamps), kept, is_lost in zip(runs, byte_ranges, lost, strict=True)
        ]
        # A part that begins within a GOP needs the packets from the last key frame on.
        for index in range(1, len(parts)):
            lead = find_lead(parts, [stamps for _, stamps in runs], index)
            if lead is None or runs[lead.first][0] != runs[index][0]:
                continue
            head = _lead_in(file, layout, tables, runs[index][0], lead, parts[index].byte_range)
            led = replace(parts[index].byte_range, head=head)
            parts[index] = replace(parts[index], byte_range=led)
    return parts


# ---------------------------------------------------------------------- streams


def _in_turn(videos: Headers, main_pid: Callable[[], int]) -> list[int]:
    """Return the packet ids of video streams that follow each other, in file order."""
    spans: dict[int, tuple[int, int]] = {}
    for pid in np.unique(videos.pids):
        positions = videos.positions[videos.pids == pid]
        if len(positions) >= _MIN_FRAMES:
            spans[int(pid)] = int(positions[0]), int(positions[-1])
    order = sorted(spans, key=lambda pid: spans[pid])
    if any(spans[after][0] < spans[before][1] for before, after in pairwise(order)):
        main = main_pid()
        begin, end = spans.get(main, (0, 0))
        order = [pid for pid in order if pid == main or not _overlap(spans[pid], (begin, end))]
        disjoint: list[int] = []
        for pid in order:
            if pid == main or not any(_overlap(spans[pid], spans[one]) for one in disjoint):
                disjoint.append(pid)
        order = disjoint
    return order or [int(pid) for pid in np.unique(videos.pids)[:1]]


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _unwrapped(headers: Headers) -> Stamps:
    """Return time stamps in seconds, with the 33-bit clock unwrapped."""
    steps = _centred(np.diff(headers.decoded, prepend=headers.decoded[:1]))
    decoded = headers.decoded[:1] + np.cumsum(steps)
    shown = decoded + _centred(headers.shown - headers.decoded)
    keys = headers.keys if headers.keys.any() else None
    return Stamps(decoded / TICKS_PER_SECOND, shown / TICKS_PER_SECOND, headers.positions, keys)


def _centred(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Wrap differences of time stamps into ``[-WRAP / 2, WRAP / 2)``."""
    return np.asarray((ticks + WRAP // 2) % WRAP - WRAP // 2)


def _beside(headers: Headers, pid: int, stamps: Stamps) -> Stamps:
    """Return time stamps of all other streams and of clock references, unwrapped relative to those
    of stream ``pid``."""
    others = headers.where(
        (headers.ids != TABLE) & ((headers.pids != pid) | (headers.ids == CLOCK))
    )
    order = np.argsort(others.positions, kind="stable")
    others = others.where(order)
    indices = np.searchsorted(stamps.positions, others.positions).clip(1) - 1
    reference = np.round(stamps.decoded[indices] * TICKS_PER_SECOND).astype(np.int64)
    ticks = reference + _centred(others.decoded - reference)
    seconds = ticks / TICKS_PER_SECOND
    return Stamps(seconds, seconds, others.positions)


# ---------------------------------------------------------------------- audio without video


def _first_byte(
    file: BufferedReader, layout: Layout, tables: NDArray[np.int64], pid: int, stamps: Stamps
) -> int:
    """Return the byte to read from: 0, or, if the first program map does not list stream ``pid``,
    the last program table before its first packet."""
    first = int(stamps.positions[0])
    before = tables[tables <= first]
    if len(before) < 2:
        return 0
    listed = _listed_streams(_tables_from(file, layout, int(before[0])), layout)
    return 0 if listed is None or pid in listed else int(before[-1])


def _runs_alone(headers: Headers, gap: tuple[int, int]) -> bool:
    """Return whether more than ``_BEHIND`` seconds of audio lie between the frames of two parts."""
    inside = (headers.positions > gap[0]) & (headers.positions < gap[1])
    sounds = headers.where(inside & (headers.ids >= 0))
    spans = (_unwrapped(sounds.where(sounds.pids == pid)) for pid in np.unique(sounds.pids))
    return any(float(np.ptp(one.decoded)) > _BEHIND for one in spans)


def _without_sound_of(headers: Headers, pid: int, gap: tuple[int, int]) -> tuple[int, int, int]:
    """Return the ``gap``, and where in it audio reuses the video's packet id (or its end)."""
    taken = headers.where((headers.pids == pid) & (headers.ids >= 0) & ~is_video(headers.ids))
    inside = taken.positions[(taken.positions > gap[0]) & (taken.positions < gap[1])]
    return (*gap, int(inside[0]) if len(inside) else gap[1])


# ---------------------------------------------------------------------- joints


def _joint(
    file: BufferedReader,
    layout: Layout,
    tables: NDArray[np.int64],
    pid: int,
    gap: tuple[int, int, int],
) -> tuple[int, int, bytes]:
    """Return where stream ``pid`` ends, from which byte the next part can be read, and the bytes to
    put in front of it.

    ``gap`` holds the positions of the stream's last PES header, of the next part's first one, and
    from which on packets with its id belong to another stream. The next part is best read from the
    last program table in between.
    """
    last, first_after, own_end = gap
    end = last + layout.size
    for positions, rows in packet_rows(file, layout, last, own_end):
        own = positions[packet_ids(rows) == pid]
        if len(own):
            end = int(own[-1]) + layout.size
    inside = tables[(tables >= end) & (tables < first_after)]
    if len(inside):
        return end, int(inside[-1]), b""
    before = tables[tables < end]
    return end, first_after, _tables_from(file, layout, int(before[-1])) if len(before) else b""


def _tables_from(file: BufferedReader, layout: Layout, start: int) -> bytes:
    """Return the PAT and PMT packets from ``start`` on, which declare the streams."""
    head = b""
    wanted: set[int] = set()
    for positions, rows in packet_rows(file, layout, start, start + _NEXT_TABLES * layout.size):
        wanted = wanted or _program_pids(bytes(rows[0]))
        for place, pid in zip(positions, packet_ids(rows), strict=True):
            if not head or int(pid) in wanted:
                file.seek(int(place))
                head += file.read(layout.size)
    return head


def _lead_in(
    file: BufferedReader,
    layout: Layout,
    tables: NDArray[np.int64],
    pid: int,
    lead: Lead,
    byte_range: ByteRange,
) -> bytes:
    """Return the packets of stream ``pid`` that the first frames of a part refer to, shifted to its
    clock, with continuity counters that lead up to those of its ``byte_range``."""
    before = tables[tables <= lead.positions[0]]
    around = bytes(layout.sync), bytes(layout.size - layout.sync - PACKET)
    shifts = np.round(np.asarray(lead.shifts) * TICKS_PER_SECOND).astype(np.int64)
    packets: list[bytearray] = []
    for positions, rows in packet_rows(file, layout, lead.positions[0], lead.end):
        chosen = np.flatnonzero(packet_ids(rows) == pid)
        owners = np.searchsorted(lead.positions, positions[chosen], side="right") - 1
        for row, shift in zip(rows[chosen], shifts[owners], strict=True):
            packet = bytearray(row.tobytes())
            _shift_stamps(packet, int(shift))
            packets.append(packet)
    # Renumber backwards from the first packet of the part.
    count = _first_counter(file, layout, pid, byte_range)
    for packet in reversed(packets):
        has_payload = packet[3] >> 4 & 1  # only packets with a payload are counted
        count -= has_payload
        packet[3] = packet[3] & 0xF0 | (count - 1 + has_payload) % 16
    found = [_tables_from(file, layout, int(before[-1])) if len(before) else b""]
    return b"".join([*found, *(around[0] + packet + around[1] for packet in packets)])


def _first_counter(file: BufferedReader, layout: Layout, pid: int, byte_range: ByteRange) -> int:
    """Return the continuity counter of the first packet of stream ``pid`` in a byte_range
    (2.4.3.3)."""
    for _, rows in packet_rows(file, layout, byte_range.start, byte_range.end):
        own = rows[packet_ids(rows) == pid]
        if len(own):
            return int(own[0, 3]) & 15
    return 0


def _shift_stamps(packet: bytearray, ticks: int) -> None:
    """Shift the time stamps of the PES header that begins in a packet, if any, and remove a clock
    reference (2.4.3.4)."""
    adapted = packet[3] & 0x20
    if adapted and packet[4]:
        packet[5] &= ~0x10
    offset = 4 + (1 + packet[4] if adapted else 0)
    if not packet[1] & 0x40 or packet[offset : offset + 3] != b"\0\0\1" or offset + 19 > PACKET:
        return
    for flag, at in ((0x80, offset + 9), (0x40, offset + 14)):
        if packet[offset + 7] & flag:
            shift_stamp(packet, at, ticks)


def _listed_streams(tables: bytes, layout: Layout) -> set[int] | None:
    """Return the packet ids in the first map (PMT) of each program, without audio streams; None
    without a map."""
    programs: dict[int, set[int]] = {}
    for start in range(layout.sync, len(tables) - PACKET + 1, layout.size):
        packet = tables[start : start + PACKET]
        streams = [*streams_in_map(packet)]
        if streams:
            found = {pid for kind, pid in streams if kind not in _SOUND_TYPES}
            programs.setdefault((packet[1] & 0x1F) << 8 | packet[2], found)
    return set().union(*programs.values()) if programs else None


def _program_pids(packet: bytes) -> set[int]:
    """Return the packet ids of the maps (PMT) listed in a program association table (2.4.4.3)."""
    offset = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
    section = packet[offset + 1 + packet[offset] :] if offset < len(packet) else b""
    if len(section) < 8:
        return set()
    length = (section[1] & 0x0F) << 8 | section[2]
    entries = section[8 : 3 + length - 4]
    return {
        (entries[at + 2] & 0x1F) << 8 | entries[at + 3]
        for at in range(0, len(entries) - 3, 4)
        if entries[at] or entries[at + 1]
    }
