"""Boundaries of concatenated files: recognises formats by their first bytes, steps over the
elements of a file, and searches the next header where that fails.

FFmpeg reads past the end of a file into the next one: it puts the frames of both on one clock, or
loses them. A file of another format is expected where an element should begin and none does. If a
truncated file has another appended to it, the length of its last element points into the next one:
then the next header of any container format is searched, as it is from the beginning in formats
whose parts do not state their length.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from smolvideo.readers.elements import ELEMENT_FORMATS, Flash, Format, Gif, Png, WebP
from smolvideo.readers.ffmpeg_input import ByteRange
from smolvideo.readers.ipc import beat
from smolvideo.readers.mp4_boxes import TOP_LEVEL_KINDS
from smolvideo.readers.stream_formats import STREAM_FORMATS, Dv, Obu
from smolvideo.readers.ts_packets import layout_of

_HEAD = 4096
_BLOCK = 2**20
_KEY = 5
"""Bytes of a key of which the last two are searched first."""
_LEAST = 256
"""Minimum bytes after the end of a file to look for an appended file of another format."""
_MOST_AFTER_IMAGE = 1024
"""Bytes of an unknown kind up to which they are padding."""
_SYNCS = 8
"""Sync bytes in a row by which a transport stream is recognised at an arbitrary place."""


@dataclass(frozen=True)
class Walk:
    """Byte positions where files of one format begin, and the end that the last one claims, which
    may be after the end of the bytes; None if the format does not state it."""

    starts: list[int]
    end: int | None


class Mp4(Format):
    """MP4: see joined_mp4.py."""

    magic = b""
    demuxer = "mov"
    found_by = b"ftyp"
    key_offset = 4
    MAX_TYPE = 256
    """Maximum bytes of a file-type box (`ftyp`)."""

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return head[4:8] in TOP_LEVEL_KINDS

    @classmethod
    def opens(cls, head: bytes) -> bool:
        size = int.from_bytes(head[:4], "big")
        known = 16 <= size <= cls.MAX_TYPE and head[size + 4 : size + 8] in TOP_LEVEL_KINDS
        return known and head[8:12].isascii()


class Flv(Format):
    """Flash Video: see flv_tags.py."""

    magic = b"FLV\x01"
    demuxer = "flv"

    @classmethod
    def opens(cls, head: bytes) -> bool:
        return head[4] & 0xFA == 0 and head[5:13] == b"\0\0\0\x09\0\0\0\0"


class Transport(Format):
    """MPEG transport streams: see ts_packets.py."""

    magic = b""
    demuxer = "mpegts"
    found_by = b"\x47\x40"

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return layout_of(head) is not None

    @classmethod
    def opens(cls, head: bytes) -> bool:
        return packet_size_at(head) in (188, 204)


class DiscTransport(Transport):
    """Transport streams on discs, with four bytes before each packet."""

    key_offset = 4

    @classmethod
    def opens(cls, head: bytes) -> bool:
        return packet_size_at(head) == 192


FORMATS: tuple[type[Format], ...] = (
    *ELEMENT_FORMATS,
    Flv,
    Mp4,
    *STREAM_FORMATS,
    Transport,
    DiscTransport,
)
_SOUGHT_EVERYWHERE = tuple(
    one for one in FORMATS if one.walks and one not in (Flash, Gif, Png, WebP, Dv, Obu)
)
"""Formats that are searched for in unknown bytes too: the others are found in frames, or are
pictures, which covers and previews have within a file."""


def format_of(head: bytes) -> type[Format] | None:
    """Detect the format from the first bytes of a file; None if unknown."""
    return next(
        (one for one in FORMATS if head.startswith(one.magic) and one.is_header(head)), None
    )


def format_at(file: BinaryIO, position: int, end: int) -> type[Format] | None:
    """Return the format that begins at ``position``; None if unknown or too close to ``end``."""
    if position + _LEAST >= end:
        return None
    file.seek(position)
    return format_of(file.read(_HEAD))


def other_at(
    file: BinaryIO, position: int, end: int, kind: type[Format], size: int | None = None
) -> type[Format] | None:
    """Return the format that begins at ``position`` if it is another than ``kind``, or a transport
    stream of another packet size than ``size``."""
    if position + _LEAST >= end:
        return None
    file.seek(position)
    return _other_of(file.read(_HEAD), kind, size)


def _other_of(head: bytes, kind: type[Format], size: int | None = None) -> type[Format] | None:
    packet_size = packet_size_at(head)
    if packet_size is not None:
        return None if kind is Transport and packet_size == size else Transport
    for one in FORMATS:  # the last ones, transport streams, are known by their packets
        if head.startswith(one.magic) and not issubclass(one, Transport) and one.is_header(head):
            return None if one is kind else one
    return None


def packet_size_at(head: bytes) -> int | None:
    """Return the packet size of a transport stream that begins with a packet; None if none does."""
    for size, sync in ((188, 0), (192, 4), (204, 0)):
        if head[sync : sync + _SYNCS * size : size] == b"\x47" * _SYNCS:
            return size if set(head[: 2 * size]) != {0x47} else None
    return None


def find_format(
    file: BinaryIO,
    start: int,
    end: int,
    kinds: Iterable[type[Format]],
    own: type[Format] | None,
    stop: int | None = None,
) -> tuple[int, type[Format]] | None:
    """Return the first byte offset from ``start`` at which a file of one of the ``kinds``, or a
    header of the format ``own``, begins, and its format; None if there is none before ``stop``.
    The files are in the bytes up to ``end``, the default of ``stop``."""
    stop = end if stop is None else stop
    # Two bytes of each key, by which NumPy finds where it may be.
    keys: dict[int, list[tuple[type[Format], bytes, int]]] = {}
    for kind in kinds:
        key = kind.magic if kind is own else kind.found_by or kind.magic
        place = min(len(key), _KEY) - 2
        pair = int.from_bytes(key[place : place + 2], "little")
        keys.setdefault(pair, []).append((kind, key, place))
    marks = np.zeros(2**16, np.bool_)
    marks[list(keys)] = True
    while start < stop:
        beat()
        file.seek(start)
        data = file.read(min(_BLOCK, stop - start) + _HEAD)
        for offset in _marked(data, marks):
            for kind, key, place in keys[int.from_bytes(data[offset : offset + 2], "little")]:
                at = offset - place
                first = at if kind is own else at - kind.key_offset
                if not 0 <= first < min(_BLOCK, stop - start) or not data.startswith(key, at):
                    continue
                head = data[first : first + _HEAD]
                fits = kind is own or start + first + _LEAST < end
                if fits and (kind.is_header(head) if kind is own else kind.opens(head)):
                    return start + first, kind
        start += _BLOCK
    return None


def _marked(data: bytes, marks: NDArray[np.bool_]) -> list[int]:
    """Return the offsets, ascending, of the pairs of bytes, little-endian, that are marked."""
    offsets = [
        2 * np.flatnonzero(marks[np.frombuffer(data, "<u2", (len(data) - odd) // 2, odd)]) + odd
        for odd in (0, 1)
        if len(data) > odd
    ]
    return sorted(np.concatenate(offsets).tolist()) if offsets else []


def find_following(file: BinaryIO, start: int, end: int) -> int | None:
    """Return the first byte offset from ``start`` at which a file of any container format begins,
    None if there is none before ``end``."""
    found = find_format(file, start, end, _SOUGHT_EVERYWHERE, None)
    return None if found is None else found[0]


def walk(file: BinaryIO, start: int, end: int, kind: type[Format]) -> Walk:
    """Step over the elements of a file, and over the files of its format that follow it, up to one
    of another format."""
    if not kind.walks:
        others = [one for one in FORMATS if one not in (kind, Flash)]
        found = find_format(file, start + 1, end, others, None)
        return Walk([start], None if found is None else found[0])
    one = kind()
    position, starts = start, [start]
    passed: deque[int] = deque([start], maxlen=kind.doubted)
    while position < end:
        beat()
        file.seek(position)
        head = file.read(min(kind.look_ahead, end - position))
        step = one.step(head)
        if kind.is_doubtful and position > start and _other_of(head, kind) is not None:
            return Walk(starts, position)
        if step is not None and position + step <= end:
            if one.begins(head) and position != starts[-1]:
                starts.append(position)
                passed.clear()
            passed.append(position)
            position += step
            continue
        following = next_file(file, position, end, kind, passed[0])
        if following is None:
            return Walk(starts, _stated_end(kind, position, step, end))
        position = following[0]
        if following[1] is not kind:
            return Walk(starts, position)
        one.resume()
        passed.clear()
        passed.append(position)
    return Walk(starts, position)


def next_file(
    file: BinaryIO, position: int, end: int, kind: type[Format], doubted: int
) -> tuple[int, type[Format]] | None:
    """Return where the next file begins if no element does at ``position``, and its format: there,
    or, after damage or the rest of a truncated file, where the next header is."""
    other = other_at(file, position, end, kind)
    if other is not None:
        return position, other
    if kind.excess and (overstated := format_at(file, position - kind.excess, end)) is not None:
        return position - kind.excess, overstated
    sought = [kind, *(one for one in _SOUGHT_EVERYWHERE if one is not kind)]
    return find_format(file, doubted + 1, end, sought, kind)


def _stated_end(kind: type[Format], position: int, step: int | None, end: int) -> int:
    """Return where a file ends whose last element, at ``position``, does not fit or is unknown."""
    if kind.is_stream and step is not None:
        return end  # a recording stops anywhere
    least = kind.least if end - position < kind.least else 0
    stated_end = position + (step or least)
    return end if end < stated_end <= end + kind.excess else stated_end


def bytes_after_image(path: Path) -> int:
    """Return how many bytes follow the first image or animation of a GIF, PNG or WebP file: the
    next one, or a file of another format. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        kind = format_of(file.read(_HEAD))
        if kind not in (Gif, Png, WebP):
            return 0
        found = walk(file, 0, size, kind)
        end = [*found.starts[1:], found.end or size][0]
        known = format_at(file, end, size) is not None
    return size - end if known or size - end > _MOST_AFTER_IMAGE else 0


class FileAfterPackets:
    """Finds the file after a transport stream of packets of ``size`` bytes. ``found`` is the byte
    at which it begins, None until it is found."""

    _MAX_SEARCHES = 1000
    """Searches within a truncated packet; damaged streams lose their packets often."""

    def __init__(self, end: int, size: int) -> None:
        self.found: int | None = None
        self._end, self._size, self._searches = end, size, 0

    def find(self, file: BinaryIO, first: int, last: int) -> int | None:
        """Return where another file begins: with a packet from ``last`` back to ``first``, or
        within the one before ``last``, if the stream is truncated."""
        for place in range(last, first - 1, -self._size):
            if other_at(file, place, self._end, Transport, self._size) is not None:
                self.found = place
        self._searches += 1
        if self.found is None and self._searches <= self._MAX_SEARCHES:
            inside = max(first, last - self._size) + 1
            found = find_format(file, inside, self._end, _SOUGHT_EVERYWHERE, None, stop=last)
            self.found = None if found is None else found[0]
        return self.found


def find_byte_ranges(
    file: BinaryIO, end: int, kind: type[Format], begin: int = 0
) -> tuple[list[ByteRange], int | None]:
    """Return the byte ranges of joined files of one format, up to one of another format, and the
    end that the last one claims."""
    found = walk(file, begin, end, kind)
    bounds = zip(found.starts, [*found.starts[1:], end], strict=True)
    return [ByteRange(*ends, kind.demuxer) for ends in bounds], found.end
