"""MPEG transport-stream packet headers, parsed with NumPy: PES time stamps, PCR, PAT, continuity.

A gigabyte takes about a second, several times less than FFmpeg's demuxer, which parses every frame.
So every transport stream is read to its end before its time stamps are trusted.
Formats: ISO/IEC 13818-1, 2.4.3.2 (packets), 2.4.3.6 (PES), 2.4.3.7 (33-bit time stamps), 2.4.4.3
(PAT).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smolvideo.readers.encryption import transport_packet_bytes
from smolvideo.readers.ipc import beat

Bytes = NDArray[np.uint8]
FindNextFile = Callable[[BufferedReader, int, int], int | None]

_PACKET_OF_DISCS, _SYNC_OF_DISCS = 192, 4
"""Packet size on discs (M2TS): four bytes precede the sync byte."""
_SYNC = 0x47
_SYNCS_IN_ROW = 5
_FEWEST, _MOST = 64, 2**12
"""Packets per read: few after damage, then doubled up to a number that fits into a CPU cache."""
_SEEMING = 2
"""Packets at the beginning of another file that have sync bytes by chance."""
_HEADER = 19
"""Bytes of a PES header up to the end of its time stamps."""
TABLE, CLOCK = -1, -2
"""Values of ``Headers.ids`` that are not stream ids: program table (PAT), clock reference (PCR)."""
TICKS_PER_SECOND = 90_000
_MAX_GAPS = 10_000
"""Maximum number of gaps recorded: noise has millions."""
_PACKET_IDS = 2**13
"""Number of packet ids; the last is that of null packets."""
PACKET = 188
"""Bytes of a packet from its sync byte on, without a disc's prefix or parity bytes."""


@dataclass(frozen=True)
class Layout:
    """Packet layout of a file: packet size, offset of the sync byte in it, offset of the first."""

    size: int
    sync: int
    start: int


@dataclass(frozen=True)
class Headers:
    """PES headers with time stamps: int64 ``[N]`` byte positions, packet ids, stream ids, and DTS
    (``decoded``) and PTS (``shown``) in 1/90000 s; ``keys`` is the ``random_access_indicator``."""

    positions: NDArray[np.int64]
    pids: NDArray[np.int64]
    ids: NDArray[np.int64]
    decoded: NDArray[np.int64]
    shown: NDArray[np.int64]
    keys: NDArray[np.bool_]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Headers":
        return Headers(
            self.positions[chosen],
            self.pids[chosen],
            self.ids[chosen],
            self.decoded[chosen],
            self.shown[chosen],
            self.keys[chosen],
        )


def layout_of(head: bytes) -> Layout | None:
    """Detect the layout from the first bytes of a file; None if it is no transport stream."""
    found = transport_packet_bytes(head)
    if found is None:
        return None
    offset, size = found
    sync = _SYNC_OF_DISCS if size == _PACKET_OF_DISCS else 0
    return Layout(size, sync, (offset - sync) % size)


def _in_step(data: Bytes, size: int, sync: int) -> int | None:
    """Return the offset of the first of several consecutive packets, by their sync bytes."""
    rows = min(_SYNCS_IN_ROW, len(data) // size)
    if rows < 2:
        return None
    marks = data[sync:] == _SYNC
    usable = len(marks) - (rows - 1) * size
    together = np.ones(usable, dtype=np.bool_)
    for row in range(rows):
        together &= marks[row * size : row * size + usable]
    found = int(together.argmax())
    return found if together[found] else None


class Continuity:
    """Lost packets, by the continuity counter of each stream (2.4.3.3). ``gaps`` holds packet id,
    position of the packet before and position of the packet after each gap."""

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int, int]] = []
        self._counts = np.full(_PACKET_IDS, -1, np.int64)
        self._last = np.zeros(_PACKET_IDS, np.int64)

    def follow(self, positions: NDArray[np.int64], rows: Bytes) -> None:
        """Check the counters of the next packets ``[N, 188]`` at byte ``positions``."""
        # Only packets with a payload are counted.
        heads = rows[:, :6].copy()
        if not (payload := heads[:, 3] & 0x10 != 0).all():
            heads, positions = heads[payload], positions[payload]
        pids = packet_ids(heads).astype(np.uint16)
        order = np.argsort(pids, kind="stable")  # radix sort, as the ids are uint16
        pids, counts = pids[order], heads[order, 3] & 15
        begins = np.flatnonzero(np.diff(pids, prepend=_PACKET_IDS))
        before = np.roll(counts, 1)
        known = self._counts[pids[begins]]
        before[begins] = np.where(known < 0, counts[begins], known)
        # A difference of 0 is a repeated packet, which is allowed.
        missing = np.flatnonzero(((counts - before) & 15 > 1) & (pids != _PACKET_IDS - 1))
        for index in missing[: max(0, _MAX_GAPS - len(self.gaps))].tolist():
            packet = heads[order[index]]
            if packet[3] & 0x20 and packet[4] and packet[5] & 0x80:  # discontinuity_indicator
                continue
            pid, position_after = int(pids[index]), int(positions[order[index]])
            own = index > 0 and pids[index - 1] == pid
            last = positions[order[index - 1]] if own else self._last[pid]
            self.gaps.append((pid, int(last), position_after))
        ends = np.append(begins[1:], len(pids))[: len(begins)] - 1
        self._counts[pids[ends]], self._last[pids[ends]] = counts[ends], positions[order[ends]]


def read_headers(
    path: Path,
    layout: Layout,
    start: int,
    end: int,
    find_next: FindNextFile,
) -> tuple[Headers, Continuity, int]:
    """Read a file that begins at ``start``. Return its headers, its gaps, and where its last packet
    ends: after ``end`` if the packet is truncated.

    ``find_next(file, first, last)`` returns, for bytes that are no packets from ``last`` on, where
    another file begins, which ends the reading; None if there is none.
    """
    found: list[Headers] = []
    continuity = Continuity()
    last_byte_end = start + layout.start
    with path.open("rb") as file:
        for positions, rows in packet_rows(file, layout, last_byte_end, end, find_next):
            found += _headers_of(positions, rows)
            continuity.follow(positions, rows)
            last_byte_end = int(positions[-1]) + layout.size
        file.seek(last_byte_end + layout.sync)
        if last_byte_end + layout.size > end and file.read(1) == bytes([_SYNC]):
            last_byte_end += layout.size
    if not found:
        none = np.empty(0, np.int64)
        return Headers(none, none, none, none, none, none > 0), continuity, last_byte_end
    columns = (
        np.concatenate([getattr(one, name) for one in found])
        for name in ("positions", "pids", "ids", "decoded", "shown", "keys")
    )
    return Headers(*columns), continuity, last_byte_end


def packet_rows(
    file: BufferedReader,
    layout: Layout,
    start: int,
    end: int,
    find_next: FindNextFile | None = None,
) -> Iterator[tuple[NDArray[np.int64], Bytes]]:
    """Yield positions ``[N]`` and bytes ``[N, 188]`` of up to ``_MOST`` packets at a time,
    resyncing after damage, unless ``find_next`` finds another file there. The arrays are views of
    a buffer that the next iteration overwrites."""
    size, position, count = layout.size, start, _FEWEST
    buffer = memoryview(bytearray(_MOST * size))
    while position + size <= end:
        beat()
        file.seek(position)
        read = file.readinto(buffer[: min(count * size, end - position)])
        data = np.frombuffer(buffer, np.uint8, read)
        whole = len(data) // size
        if not whole:
            return
        rows = data[: whole * size].reshape(whole, size)
        marked = rows[:, layout.sync] == _SYNC
        good = whole if marked.all() else int(marked.argmin())
        is_last = False
        if good < whole and find_next is not None:
            # The first bytes of the next file may look like a packet or two.
            seeming = position + max(0, good - _SEEMING) * size
            following = find_next(file, seeming, position + good * size)
            if following is not None:
                good, is_last = (following - position) // size, True
        if good:
            positions = position + size * np.arange(good, dtype=np.int64)
            yield positions, rows[:good, layout.sync : layout.sync + PACKET]
        if is_last:
            return
        position += good * size
        count = min(2 * count, _MOST)
        # Out of sync: search the rest of the buffer for the next packets.
        if good < whole:
            count = _FEWEST
            rest = data[good * size + 1 :]
            found = _in_step(rest, size, layout.sync)
            position += 1 + (found if found is not None else max(0, len(rest) - size))


def _headers_of(positions: NDArray[np.int64], rows: Bytes) -> list[Headers]:
    """Parse PES headers, program tables and clock references among packets ``[N, 188]``."""
    heads = rows[:, :4].copy()  # contiguous copy: one pass over memory instead of several
    found = []
    begins = np.flatnonzero(heads[:, 1] & 0xC0 == 0x40)
    # Program association tables.
    tables = begins[packet_ids(heads[begins]) == 0]
    if len(tables):
        none = np.zeros(len(tables), np.int64)
        found.append(Headers(positions[tables], none, none + TABLE, none, none, none > 0))
    # Program clock references, in the adaptation field.
    clocks = np.flatnonzero(heads[:, 3] & 0x20 != 0)
    clocks = clocks[(rows[clocks, 4] >= 7) & (rows[clocks, 5] & 0x10 != 0)]
    if len(clocks):
        base = rows[clocks, 6:11].astype(np.int64)
        ticks = base[:, 0] << 25 | base[:, 1] << 17 | base[:, 2] << 9 | base[:, 3] << 1
        ticks |= base[:, 4] >> 7
        kind = np.full(len(clocks), CLOCK, np.int64)
        pids = packet_ids(heads[clocks])
        found.append(_once_a_second(Headers(positions[clocks], pids, kind, ticks, ticks, kind > 0)))
    # PES headers, after the adaptation field if there is one.
    places = begins[heads[begins, 3] & 0x10 != 0]
    packets = rows[places]
    offsets = np.where(packets[:, 3] & 0x20, 5 + packets[:, 4].astype(np.int64), 4)
    fits = offsets <= PACKET - _HEADER
    places, packets, offsets = places[fits], packets[fits], offsets[fits]
    pes = np.take_along_axis(packets, offsets[:, None] + np.arange(_HEADER), axis=1)
    stamped = (pes[:, 0] == 0) & (pes[:, 1] == 0) & (pes[:, 2] == 1) & (pes[:, 7] & 0x80 != 0)
    places, pes, packets = places[stamped], pes[stamped].astype(np.int64), packets[stamped]
    shown = _ticks(pes[:, 9:14])
    decoded = np.where(pes[:, 7] & 0x40, _ticks(pes[:, 14:19]), shown)
    pids = packet_ids(packets)
    keys = (packets[:, 3] & 0x20 != 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x40 != 0)
    headers = Headers(positions[places], pids, pes[:, 3], decoded, shown, keys)
    pictures = is_video(headers.ids) | is_other_video(headers.ids)
    return [*found, headers.where(pictures), _once_a_second(headers.where(~pictures))]


def is_video(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the stream ids of MPEG and ITU video."""
    return np.asarray((ids >= 0xE0) & (ids <= 0xEF))


def is_other_video(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the stream id that later video codecs such as VC-1 share with audio."""
    return np.asarray(ids == 0xFD)


def _once_a_second(headers: Headers) -> Headers:
    """Return one header per second and stream: enough to know that the stream's clock runs."""
    seconds = headers.decoded // TICKS_PER_SECOND
    _, indices = np.unique(headers.pids << 32 | seconds, return_index=True)
    return headers.where(np.sort(indices))


def packet_ids(rows: Bytes) -> NDArray[np.int64]:
    return np.asarray((rows[:, 1] & 0x1F).astype(np.int64) << 8 | rows[:, 2])


def _ticks(stamp: NDArray[np.int64]) -> NDArray[np.int64]:
    """Decode 33-bit time stamps from five bytes ``[N, 5]`` with marker bits in between."""
    a, b, c, d, e = (stamp[:, place] for place in range(5))
    return np.asarray((a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1)


WRAP = 2**33
"""Period of the clock in units of 1/90000 s."""


def shift_stamp(data: bytearray, at: int, ticks: int) -> None:
    """Add ``ticks`` to the time stamp at ``at``: 33 bits in five bytes, with marker bits."""
    a, b, c, d, e = data[at : at + 5]
    time = (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
    time = (time + ticks) % WRAP
    data[at : at + 5] = (
        (a & 0xF0) | time >> 29 & 0x0E | 1,
        time >> 22 & 0xFF,
        time >> 14 & 0xFE | 1,
        time >> 7 & 0xFF,
        time << 1 & 0xFE | 1,
    )
