"""Lead of a part of an MPEG program stream: the packs its first frames refer to, on its clock.

Format: ISO/IEC 13818-1, 2.5.3 (packs), 2.4.3.6 (PES); ISO/IEC 11172-1, 2.4.3 (MPEG-1).
"""

from typing import BinaryIO

from smolvideo.readers.discontinuities import Lead
from smolvideo.readers.stamps import shift_stamp

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
