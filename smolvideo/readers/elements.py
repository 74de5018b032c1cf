"""Container formats as sequences of elements: find the starts of concatenated files, and the end
that the last one claims.

FFmpeg reads past a second header and puts the frames of both files on one clock, or loses them. If
a truncated file has another appended to it, the length of its last element points into the next
file: then the next header is searched. Formats: RFC 8794, 4 and 5 (EBML), RFC 9559, 5 (Matroska);
ASF specification, 2; RFC 3533, 6 (Ogg pages); SMPTE ST 336 (KLV) and ST 377-1, 7 (MXF); RIFF, IVF,
RealMedia, WTV, SWF and NUT as FFmpeg's muxers write them.
"""

from collections import deque
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from smolvideo.readers.byte_range import LOOK_AHEAD, Stretch, find_header
from smolvideo.readers.heartbeat import beat

_DOUBTED = 8
"""Last elements that are searched again for a header: frame data may have been parsed as them."""
_FIRST_OF_STREAM = 2
_PAGE = 27
"""Bytes of an Ogg page's header before the sizes of its segments."""
_MAX_ASF_HEADER = 64 * 2**20
_WTV_SECTOR = 4096
_WTV_LENGTH = 0x5C
"""Offset of the file size, in sectors, in a WTV header."""


@dataclass(frozen=True)
class Walk:
    """Byte positions where files of one format begin, and the end that the last one claims, which
    may be after the end of the bytes; None if the format does not state it."""

    starts: list[int]
    end: int | None


class Format:
    """A container format whose elements state their length. An instance keeps the parser state for
    one file and those concatenated to it."""

    magic: ClassVar[bytes]
    """First bytes of a file; of Ogg, of every page."""
    demuxer: ClassVar[str]
    walks: ClassVar[bool] = True
    """Whether elements state their length; otherwise only headers are searched."""

    least: ClassVar[int] = 0
    """Minimum length of an element; a shorter rest of a file is a truncated one."""
    excess: ClassVar[int] = 0
    """Bytes by which known muxers overstate the length of the last element."""

    def step(self, head: bytes) -> int | None:
        """Return the bytes to the next element, or to the first child of an element of unknown
        length; None if ``head``, the first bytes, is no known element."""
        raise NotImplementedError

    def begins(self, head: bytes) -> bool:
        """Return whether the element passed to ``step`` last is the first of a file."""
        return self.is_header(head)

    def resume(self) -> None:
        """Reset the state after bytes that are no elements."""

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether a file header begins at ``head``, which starts with the magic."""
        return head.startswith(cls.magic)


def walk(file: BinaryIO, start: int, end: int, kind: type[Format]) -> Walk:
    """Step over the elements of a file, and over the files of its format that follow it."""
    if not kind.walks:
        return Walk(_search(file, start, end, kind), None)
    one = kind()
    position, starts = start, [start]
    passed: deque[int] = deque([start], maxlen=_DOUBTED)
    while position < end:
        beat()
        file.seek(position)
        head = file.read(min(LOOK_AHEAD, end - position))
        step = one.step(head)
        # Damage, or the rest of a truncated file: search for the next header.
        if step is None or position + step > end:
            found = find_header(file, passed[0] + 1, end, kind.magic, kind.is_header)
            if found is None:
                least = kind.least if end - position < kind.least else 0
                stated_end = position + (step or least)
                return Walk(starts, end if end < stated_end <= end + kind.excess else stated_end)
            position = found
            one.resume()
            passed.clear()
            passed.append(position)
            continue
        if one.begins(head) and position != starts[-1]:
            starts.append(position)
            passed.clear()
        passed.append(position)
        position += step
    return Walk(starts, position)


def _search(file: BinaryIO, start: int, end: int, kind: type[Format]) -> list[int]:
    starts = [start]
    while found := find_header(file, starts[-1] + 1, end, kind.magic, kind.is_header):
        starts.append(found)
    return starts


def find_stretches(
    file: BinaryIO, end: int, kind: type[Format], begin: int = 0
) -> tuple[list[Stretch], int | None]:
    """Return the byte ranges of concatenated files, and the end that the last one claims."""
    found = walk(file, begin, end, kind)
    bounds = zip(found.starts, [*found.starts[1:], end], strict=True)
    return [Stretch(*ends, kind.demuxer) for ends in bounds], found.end


# ---------------------------------------------------------------------- formats


class Matroska(Format):
    """Matroska: skips elements of known size, and descends into those of live recordings, whose
    size is unknown."""

    magic = b"\x1a\x45\xdf\xa3"
    demuxer = "matroska"
    _OUTER = frozenset({magic, *map(bytes.fromhex, ("18538067", "ec", "bf"))})
    """Top level: EBML header, segment, void, checksum."""
    _INNER = frozenset(
        {
            *map(bytes.fromhex, ("114d9b74", "1549a966", "1654ae6b", "1f43b675")),
            *map(bytes.fromhex, ("1c53bb6b", "1941a469", "1043a770", "1254c367")),
            *map(bytes.fromhex, ("e7", "5854", "a7", "ab", "a3", "a0", "af")),
        }
    )
    """In a segment: seek head, information, tracks, cluster; cues, attachments, chapters, tags. In
    a cluster: timestamp, silent tracks, position, previous size, blocks of three kinds."""

    def __init__(self) -> None:
        self._live = False

    def resume(self) -> None:
        self._live = False

    def step(self, head: bytes) -> int | None:
        """See ``Format.step``; elements inside a segment are only met in live recordings."""
        id_length = _vint_length(head[:1], 4)
        size_length = _vint_length(head[id_length : id_length + 1], 8)
        known = head[:id_length] in self._OUTER or (self._live and head[:id_length] in self._INNER)
        if not id_length or not size_length or not known:
            return None
        if head.startswith(self.magic):
            self._live = False
        size = int.from_bytes(head[id_length : id_length + size_length], "big")
        size &= (1 << 7 * size_length) - 1
        unknown = size == (1 << 7 * size_length) - 1  # all ones
        self._live = self._live or unknown
        return id_length + size_length + (0 if unknown else size)

    def begins(self, head: bytes) -> bool:
        return head.startswith(self.magic)

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether an EBML header with a known document type begins here (RFC 8794,
        11.2.4)."""
        kinds = (b"matroska", b"webm")
        return any(b"\x42\x82" in head[:64] and kind in head[:64] for kind in kinds)


def _vint_length(first: bytes, max_length: int) -> int:
    """Length in bytes of a variable-size integer, from its first byte; 0 if invalid."""
    length = 9 - int.from_bytes(first, "big").bit_length()
    return length if length <= max_length else 0


class Asf(Format):
    """ASF: objects; the data object of a live recording states no length."""

    magic = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
    demuxer = "asf"
    _KNOWN = frozenset(
        {
            magic,
            bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c"),
            bytes.fromhex("90080033b1e5cf1189f400a0c90349cb"),
            bytes.fromhex("d329e2d6da35d111903400a0c90349be"),
            bytes.fromhex("f803b1fead12644c840f2a1d2f7ad48c"),
            bytes.fromhex("d03fb73c4a0c0348953dedf7b6228f0c"),
            bytes.fromhex("1806d474dfca0945a4ba9aabcb96aae8"),
        }
    )
    """Header, data; indices: simple, stream, media object, time code; padding."""

    def step(self, head: bytes) -> int | None:
        size = int.from_bytes(head[16:24], "little")
        return size if head[:16] in self._KNOWN and size >= 24 else None

    def begins(self, head: bytes) -> bool:
        return head.startswith(self.magic)

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether a header object of a plausible size begins here."""
        return 30 <= int.from_bytes(head[16:24], "little") <= _MAX_ASF_HEADER


class Ogg(Format):
    """Ogg: pages; the first pages of all streams begin a link of a chain."""

    magic = b"OggS"
    demuxer = "ogg"
    least = _PAGE

    def __init__(self) -> None:
        self._begun, self._begins = True, False

    def step(self, head: bytes) -> int | None:
        if not self.is_header(head):
            return None
        first = bool(head[5] & _FIRST_OF_STREAM)
        self._begins, self._begun = first and not self._begun, first
        segments = head[26]
        return _PAGE + segments + sum(head[_PAGE : _PAGE + segments])

    def begins(self, head: bytes) -> bool:
        return self._begins

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether a page header begins here."""
        return len(head) >= _PAGE and head.startswith(cls.magic + b"\0") and head[5] < 8


class Ivf(Format):
    """IVF: a file header of 32 bytes, then frames with a header of 12: size and time stamp."""

    magic = b"DKIF\0\0\x20\0"
    demuxer = "ivf"
    least = 12
    _MOST = 2**40
    """Time stamps from here on are damage."""

    def step(self, head: bytes) -> int | None:
        if head.startswith(self.magic):
            return 32
        if len(head) < 12 or int.from_bytes(head[4:12], "little") >= self._MOST:
            return None
        return 12 + int.from_bytes(head[:4], "little")


class RealMedia(Format):
    """RealMedia: named chunks; the length of the packet chunk may be 0."""

    magic = b".RMF\0\0\0"
    demuxer = "rm"
    excess = 10
    """FFmpeg's muxer counts the header of the packets twice."""
    _NAMES = (b".RMF", b"PROP", b"MDPR", b"CONT", b"DATA", b"INDX", b"RMMD", b"RMJE", b"RJMD")

    def step(self, head: bytes) -> int | None:
        size = int.from_bytes(head[4:8], "big")
        return size if head[:4] in self._NAMES and size >= 10 else None


class Mxf(Format):
    """MXF: key-length-value triplets; a header partition begins a file."""

    magic = bytes.fromhex("060e2b34020501010d01020101")
    demuxer = "mxf"
    least = 17

    def step(self, head: bytes) -> int | None:
        if not head.startswith(self.magic[:4]) or len(head) < 17:
            return None
        first = head[16]
        if first < 0x80:
            return 17 + first
        count = first & 0x7F
        return 17 + count + int.from_bytes(head[17 : 17 + count], "big") if count <= 8 else None

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether the key of a header partition begins here (ST 377-1, table 4)."""
        return head.startswith(cls.magic + b"\x02")


class Riff(Format):
    """AVI: one or several RIFF lists. FFmpeg reads through concatenated files, so these are not
    split."""

    magic = b"RIFF"
    demuxer = "avi"

    def step(self, head: bytes) -> int | None:
        size = int.from_bytes(head[4:8], "little")
        known = head[:4] in (b"RIFF", b"JUNK", b"idx1") and len(head) >= 8
        return 8 + size + size % 2 if known else None

    def begins(self, head: bytes) -> bool:
        return False

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return head[:4] == cls.magic and head[8:11] == b"AVI"


class Wtv(Format):
    """Recordings of Windows Media Center, whose header states the file size."""

    magic = bytes.fromhex("b7d800203749da11a64e0007e95ead8d")
    demuxer = "wtv"

    def step(self, head: bytes) -> int | None:
        if not head.startswith(self.magic):
            return None
        sectors = int.from_bytes(head[_WTV_LENGTH : _WTV_LENGTH + 4], "little")
        return sectors * _WTV_SECTOR or None


class Flash(Format):
    """SWF movies, whose header states the file size if they are not compressed."""

    magic = b"FWS"
    demuxer = "swf"

    def step(self, head: bytes) -> int | None:
        size = int.from_bytes(head[4:8], "little")
        return size if head.startswith(self.magic) and size > 8 else None

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return head.startswith(cls.magic) and 3 <= head[3] <= 50


class Nut(Format):
    """NUT: packets without a stated length."""

    magic = b"nut/multimedia container\0"
    demuxer = "nut"
    walks = False


FORMATS = (Matroska, Asf, Ogg, Ivf, RealMedia, Mxf, Riff, Wtv, Flash, Nut)


def format_of(head: bytes) -> type[Format] | None:
    """Detect the format from the first bytes of a file; None if unknown."""
    return next(
        (one for one in FORMATS if head.startswith(one.magic) and one.is_header(head)), None
    )
