"""Stream formats: frames or packets one after the other, and where a file of them begins and ends.

Formats: IEC 61834-2 (DIF blocks of DV); YUV4MPEG2 as mjpegtools writes it; NUT specification, 4;
AV1 specification, 5.3 (OBU); ISO/IEC 13818-1, 2.5.3 (packs); ITU-T T.81, annex B (JPEG); ITU-T
H.264 and H.265, annex B and 7.3.1 (NAL units); ISO/IEC 13818-2, 6.2; ISO/IEC 14496-2, 6.2.
"""

import re
from typing import ClassVar

from smolvideo.readers.elements import Format


class Dv(Format):
    """DV: frames of DIF blocks, whose size follows from the system and the signal type."""

    magic = b"\x1f\x07\x00"
    demuxer = "dv"
    is_stream = is_exact = True
    doubted = 1
    _SYSTEMS: ClassVar = {0x3F: 120_000, 0xBF: 144_000}
    _FACTORS: ClassVar = {0x00: 1, 0x04: 2, 0x14: 4, 0x18: 2}
    """Frame size by signal type, as a multiple of that of the system, 525/60 or 625/50."""
    _TYPE = 80 * 5 + 48 + 3

    def __init__(self) -> None:
        self._system: tuple[int, int] | None = None
        self._begins = False

    def step(self, head: bytes) -> int | None:
        if not self.is_header(head):
            return None
        system = head[3], head[self._TYPE] & 0x1F
        self._begins, self._system = self._system not in (None, system), system
        return self._SYSTEMS[head[3]] * self._FACTORS[system[1]]

    def begins(self, head: bytes) -> bool:
        """Return whether the frame last passed to ``step`` is of another system: FFmpeg reads
        through joined files of one system."""
        return self._begins

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return (
            head.startswith(cls.magic)
            and len(head) > cls._TYPE
            and head[3] in cls._SYSTEMS
            and head[80:83] == b"\x3f\x07\x00"
            and head[cls._TYPE] & 0x1F in cls._FACTORS
        )


class Y4m(Format):
    """YUV4MPEG2: a line of text, then frames of one size, each after a line of its own."""

    magic = b"YUV4MPEG2 "
    demuxer = "yuv4mpegpipe"
    is_stream = True
    _COLOURS = re.compile(rb"(420|422|444|411|440|mono)(alpha|jpeg|mpeg2|paldv)?(p?\d\d)?\Z")

    def __init__(self) -> None:
        self._frame = 0

    def step(self, head: bytes) -> int | None:
        line = head.split(b"\n", 1)[0]
        if head.startswith(self.magic):
            self._frame = self._frame_bytes(head) or 0
            return len(line) + 1 if self._frame else None
        return len(line) + 1 + self._frame if head.startswith(b"FRAME") else None

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return cls._frame_bytes(head) is not None

    @classmethod
    def _frame_bytes(cls, head: bytes) -> int | None:
        """Return the bytes of a frame; None for an unknown layout."""
        fields = {field[:1]: field[1:] for field in head.split(b"\n", 1)[0].split(b" ")[1:]}
        width, height = fields.get(b"W", b""), fields.get(b"H", b"")
        layout = cls._COLOURS.match(fields.get(b"C", b"420"))
        if not (width.isdigit() and height.isdigit()) or layout is None:
            return None
        across, down = {
            b"420": (2, 2), b"422": (2, 1), b"444": (1, 1), b"411": (4, 1), b"440": (1, 2)
        }.get(layout[1], (0, 0))  # fmt: skip
        luma = int(width) * int(height)
        chroma = -(-int(width) // across) * -(-int(height) // down) if across else 0
        samples = luma * (2 if layout[2] == b"alpha" else 1) + 2 * chroma
        return samples * (2 if layout[3] and int(layout[3].lstrip(b"p")) > 8 else 1)


class Obu(Format):
    """AV1 as a low-overhead bitstream: OBUs that state their size, from a temporal delimiter on."""

    magic = b"\x12\0\x0a"
    demuxer = "obu"
    is_stream = is_doubtful = True
    doubted = 1
    _TYPES = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 15})

    def step(self, head: bytes) -> int | None:
        # Forbidden and reserved bits are 0, and the size must be stated.
        if len(head) < 2 or head[0] & 0x83 != 0x02 or head[0] >> 3 & 15 not in self._TYPES:
            return None
        start = 2 if head[0] & 4 else 1
        size = 0
        for place, byte in enumerate(head[start : start + 8]):
            size |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return start + place + 1 + size
        return None

    def begins(self, head: bytes) -> bool:
        return False

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether a temporal delimiter, a sequence header, and a frame or metadata begin
        here, and another OBU follows."""
        own, position = cls(), 0
        for types in ((2,), (1,), (3, 5, 6), cls._TYPES):
            rest = head[position:]
            step = own.step(rest)
            if len(rest) > 1 and (step is None or rest[0] >> 3 & 15 not in types):
                return False
            position += step or 0
        return head.startswith(cls.magic)


class ProgramStream(Format):
    """MPEG program streams: packs and packets. Joined ones are split by their clock."""

    magic = b"\0\0\1\xba"
    demuxer = "mpeg"
    is_stream = True
    doubted = 1

    def step(self, head: bytes) -> int | None:
        if head[:3] != self.magic[:3] or len(head) < 14:
            return 4 if head[:4] == b"\0\0\1\xb9" else None
        if head[3] == 0xBA:
            return 14 + (head[13] & 7) if head[4] & 0xC0 == 0x40 else 12
        if head[3] == 0xB9:
            return 4
        return 6 + int.from_bytes(head[4:6], "big") if head[3] > 0xBA else None

    def begins(self, head: bytes) -> bool:
        return False

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether the marker bits of a pack are set, of MPEG-2 or MPEG-1."""
        if not head.startswith(cls.magic) or len(head) < 14:
            return False
        later = head[4] & 0xC4 == 0x44 and head[6] & head[8] & 4 and head[9] & 1
        size = 14 + (head[13] & 7) if later else 12
        known = later or (head[4] & 0xF1 == 0x21 and head[6] & head[8] & 1)
        return bool(known) and head[size : size + 3] in (cls.magic[:3], b"")


class Nut(Format):
    """NUT: packets that state their length, and frames whose length follows from the table of
    frame codes in the main header."""

    magic = b"nut/multimedia container\0"
    demuxer = "nut"
    is_stream = is_doubtful = True
    look_ahead = 4096
    _MAIN = bytes.fromhex("4e4d7a561f5f04ad")
    _OTHERS = frozenset(
        map(bytes.fromhex, ("4e5311405bf2f9db", "4e4be4adeeca4569", "4e58dd672f23e64e"))
    ) | {bytes.fromhex("4e49ab68b596ba78")}
    """Start codes of stream headers, sync points, indices and information."""
    _CODED_PTS, _STREAM, _SIZE, _CHECKSUM, _RESERVED = 8, 16, 32, 64, 128
    _MATCH_TIME, _HEADER, _CODED, _INVALID = 512, 1024, 4096, 8192

    def __init__(self) -> None:
        self._codes: list[tuple[int, int, int, int, int]] = []
        self._elided: list[int] = []

    def step(self, head: bytes) -> int | None:
        try:
            if head.startswith(self.magic):
                return len(self.magic)
            code = head[:8]
            if code != self._MAIN and code not in self._OTHERS:
                return self._frame(head)
            size, place = _number(head, 8)
            place += 4 if size > 4096 else 0
            if code == self._MAIN:
                self._read_codes(head, place)
            return place + size
        except IndexError:
            return None

    def _read_codes(self, head: bytes, place: int) -> None:
        """Parse the main header: flags, size factor, size, reserved count and header of each
        frame code."""
        version, place = _number(head, place)
        for _ in range(3 if version > 3 else 2):  # minor version, streams, maximum distance
            _, place = _number(head, place)
        bases, place = _number(head, place)
        for _ in range(2 * bases):
            _, place = _number(head, place)
        self._codes = []
        factor, header = 1, 0
        while len(self._codes) < 256:
            flags, place = _number(head, place)
            count, place = _number(head, place)
            fields = []
            for _ in range(count):
                value, place = _number(head, place)
                fields.append(value)
            factor = fields[1] if count > 1 else factor
            size = fields[3] if count > 3 else 0
            reserved = fields[4] if count > 4 else 0
            runs = fields[5] if count > 5 else factor - size
            header = fields[7] if count > 7 else header
            for offset in range(min(runs, 256)):
                if len(self._codes) == ord("N"):
                    self._codes.append((self._INVALID, 0, 0, 0, 0))
                self._codes.append((flags, factor, size + offset, reserved, header))
        self._elided = [0]
        headers, place = _number(head, place)
        for _ in range(headers):
            length, place = _number(head, place)
            self._elided.append(length)
            place += length

    def _frame(self, head: bytes) -> int | None:
        """Return the length of the frame at ``head``, None if it is none."""
        if not self._codes:
            return None
        flags, factor, size, reserved, header = self._codes[head[0]]
        place = 1
        if flags & self._INVALID:
            return None
        if flags & self._CODED:
            changed, place = _number(head, place)
            flags ^= changed
        for flag in (self._STREAM, self._CODED_PTS):
            if flags & flag:
                _, place = _number(head, place)
        if flags & self._SIZE:
            factors, place = _number(head, place)
            size += factor * factors
        if flags & self._MATCH_TIME:
            _, place = _number(head, place)
        if flags & self._HEADER:
            header, place = _number(head, place)
        if flags & self._RESERVED:
            reserved, place = _number(head, place)
        for _ in range(min(reserved, 256)):
            _, place = _number(head, place)
        if header >= len(self._elided):
            return None
        size -= self._elided[header] if size <= 4096 else 0
        return place + (4 if flags & self._CHECKSUM else 0) + max(size, 0)


def _number(head: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits per byte, most significant first, and the place after it."""
    value = 0
    while True:
        byte = head[place]
        value, place = value << 7 | byte & 0x7F, place + 1
        if byte < 0x80:
            return value, place


# ---------------------------------------------------------------------- without lengths


class Mjpeg(Format):
    """JPEG images one after the other."""

    magic = b"\xff\xd8\xff"
    demuxer = "mjpeg"
    walks = False
    _SEGMENTS = 3

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        """Return whether an image begins with segments that state their length (B.1.1.4)."""
        place = 2
        for _ in range(cls._SEGMENTS):
            if place + 4 > len(head):
                return place > 2
            if head[place] != 0xFF or not 0xC0 <= head[place + 1] <= 0xFE:
                return False
            place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
        return True


class _Units(Format):
    """Raw video in units that begin with a start code."""

    walks = False
    _BEGINS: ClassVar[re.Pattern[bytes]]

    @classmethod
    def is_header(cls, head: bytes) -> bool:
        return cls._BEGINS.match(head[:512]) is not None


class H264(_Units):
    """H.264: a sequence parameter set with its picture parameter set, or an access unit
    delimiter before them."""

    magic = b"\0\0"
    demuxer = "h264"
    found_by = b"\0\0\0\1\x67"
    _BEGINS = re.compile(
        rb"\0?\0\0\x01(?:\x09[\x10-\xf0]\0?\0\0\x01)?"
        rb"[\x27\x47\x67][\x42\x4d\x58\x64\x6e\x7a\xf4\x2c]"
        rb"(?:(?!\0\0\x01).){2,160}\0\0\x01[\x28\x48\x68](?:(?!\0\0\x01).){2,80}\0\0\x01[^\x69\x29\x49]",
        re.DOTALL,
    )


class Hevc(_Units):
    """HEVC: a video parameter set, then a sequence parameter set."""

    magic = b"\0\0"
    demuxer = "hevc"
    found_by = b"\0\0\0\1\x40\1"
    _BEGINS = re.compile(
        rb"\0?\0\0\x01(?:\x46\x01.\0?\0\0\x01)?\x40\x01(?:(?!\0\0\x01).){4,200}\0\0\x01\x42\x01",
        re.DOTALL,
    )


class Mpeg12(_Units):
    """MPEG-1 and MPEG-2 video: a sequence header, then its extension or a group of pictures."""

    magic = b"\0\0\1\xb3"
    demuxer = "mpegvideo"
    _BEGINS = re.compile(
        rb"\0\0\x01\xb3(?:(?!\0\0\x01).){8,136}\0\0\x01[\xb2\xb5\xb8\0]", re.DOTALL
    )


class Mpeg4(_Units):
    """MPEG-4 video: a visual object sequence, then the visual object."""

    magic = b"\0\0\1\xb0"
    demuxer = "m4v"
    _BEGINS = re.compile(rb"\0\0\x01\xb0.\0\0\x01[\xb2\xb5]", re.DOTALL)


STREAM_FORMATS = (Dv, Y4m, Obu, ProgramStream, Nut, Mjpeg, H264, Hevc, Mpeg12, Mpeg4)
