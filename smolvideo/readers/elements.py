"""Container formats as sequences of elements, which state their length; see file_walk.py.

Formats: RFC 8794, 4 and 5 (EBML), RFC 9559, 5 (Matroska); ASF specification, 2; RFC 3533, 6 (Ogg
pages); SMPTE ST 336 (KLV) and ST 377-1, 7 (MXF); GIF89a specification; PNG specification, 5
(chunks); WebP container specification (RIFF); RIFF, IVF, RealMedia, WTV and SWF as FFmpeg's muxers
write them.
"""

from typing import ClassVar

_FIRST_OF_STREAM = 2
_PAGE = 27
"""Bytes of an Ogg page's header before the sizes of its segments."""
_MAX_ASF_HEADER = 64 * 2**20
_WTV_SECTOR = 4096
_WTV_LENGTH = 0x5C
"""Offset of the file size, in sectors, in a WTV header."""


class Format:
    """A container format whose elements state their length. An instance keeps the parser state for
    one file and those concatenated to it."""

    magic: ClassVar[bytes]
    """First bytes of a file; of Ogg, of every page."""
    demuxer: ClassVar[str]
    walks: ClassVar[bool] = True
    """Whether elements state their length; otherwise only headers are searched."""
    is_stream: ClassVar[bool] = False
    """Whether a recording may end anywhere, and its reading goes on after damage."""
    is_doubtful: ClassVar[bool] = False
    """Whether an element may look like the beginning of a file of another format."""
    is_exact: ClassVar[bool] = False
    """Whether bytes that are no elements are no part of a file: FFmpeg makes frames of them."""
    doubted: ClassVar[int] = 8
    """Last elements that are searched again for a header: the rest of a truncated file may have
    been parsed as them."""
    look_ahead: ClassVar[int] = 512
    """Bytes from the start of an element that ``step`` may inspect."""
    found_by: ClassVar[bytes] = b""
    """Bytes by which a file is found among others, if not by the magic."""
    key_offset: ClassVar[int] = 0
    """Offset of ``found_by`` in the file."""

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

    @classmethod
    def opens(cls, head: bytes) -> bool:
        """Return whether a file begins at ``head``, which starts with ``found_by``; stricter than
        ``is_header``, as it is asked at every place."""
        return cls.is_header(head)


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

    @classmethod
    def opens(cls, head: bytes) -> bool:
        """Return whether the first page of a stream begins here, whose position is 0."""
        return cls.is_header(head) and head[5] == _FIRST_OF_STREAM and not any(head[6:14])


class Ivf(Format):
    """IVF: a file header of 32 bytes, then frames with a header of 12: size and time stamp."""

    magic = b"DKIF\0\0\x20\0"
    demuxer = "ivf"
    is_doubtful = is_exact = True
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
    """AVI: one or several RIFF lists, of which the first is called AVI, the others AVIX."""

    magic = b"RIFF"
    demuxer = "avi"

    def step(self, head: bytes) -> int | None:
        size = int.from_bytes(head[4:8], "little")
        known = self.is_header(head) or (head[:4] in (b"JUNK", b"idx1") and len(head) >= 8)
        return 8 + size + size % 2 if known else None

    def begins(self, head: bytes) -> bool:
        return self.is_header(head) and head[11:12] != b"X"

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


class Gif(Format):
    """GIF: header, then blocks, of which those of data and extensions consist of sub-blocks."""

    magic = b"GIF8"
    demuxer = "gif"
    doubted = 2**12

    def __init__(self) -> None:
        self._within = self._ended = self._begins = False

    def step(self, head: bytes) -> int | None:
        self._begins = not self._within and self.is_header(head)
        if self._within:
            self._within = head[0] > 0
            return 1 + head[0]
        if self._begins:
            self._ended = False
            return 13 + _colours(head[10])
        if self._ended or head[:1] not in (b"\x21", b"\x2c", b"\x3b"):
            return None
        self._ended = head[0] == 0x3B
        self._within = not self._ended
        if head[0] == 0x2C:
            return 11 + _colours(head[9]) if len(head) > 9 else None
        return 1 if self._ended else 2

    def begins(self, head: bytes) -> bool:
        return self._begins

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return head[:6] in (b"GIF87a", b"GIF89a") and len(head) > 13


def _colours(flags: int) -> int:
    """Bytes of a colour table, from the packed field that announces it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


class Png(Format):
    """PNG and APNG: a signature, then chunks up to IEND."""

    magic = b"\x89PNG\r\n\x1a\n"
    demuxer = "apng"

    def __init__(self) -> None:
        self._ended = False

    def step(self, head: bytes) -> int | None:
        if head.startswith(self.magic):
            self._ended = False
            return len(self.magic)
        if self._ended or not head[4:8].isalpha() or len(head) < 8:
            return None
        self._ended = head[4:8] == b"IEND"
        return 12 + int.from_bytes(head[:4], "big")


class WebP(Format):
    """WebP: one RIFF list."""

    magic = b"RIFF"
    demuxer = "webp_pipe"

    def step(self, head: bytes) -> int | None:
        size = int.from_bytes(head[4:8], "little")
        return 8 + size + size % 2 if self.is_header(head) else None

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return head[:4] == cls.magic and head[8:12] == b"WEBP"


ELEMENT_FORMATS = (Matroska, Asf, Ogg, Ivf, RealMedia, Mxf, Riff, WebP, Wtv, Flash, Gif, Png)
