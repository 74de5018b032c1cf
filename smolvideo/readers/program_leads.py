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
    place = 0
    while (place := data.find(b"\0\0\1", place)) >= 0 and place + 20 <= len(data):
        code = data[place + 3]
        if code == _PACK:
            place += 14 + (data[place + 13] & 7) if data[place + 4] & 0xC0 == 0x40 else 12
        elif code <= _END:  # a start code inside a payload
            place += 4
        else:
            if code in _VIDEO:
                for at in _stamps_of(data, place + 6):
                    shift_stamp(data, at, ticks)
            place += 6 + int.from_bytes(data[place + 4 : place + 6], "big")
    return bytes(data)


def _stamps_of(data: bytearray, place: int) -> list[int]:
    """Return the offsets of the time stamps in a PES packet whose flags begin at ``place``."""
    if data[place] & 0xC0 == 0x80:
        flags, first = data[place + 1], place + 3
        return [first, first + 5][: {0x80: 1, 0xC0: 2}.get(flags & 0xC0, 0)]
    while place < len(data) and data[place] == 0xFF:  # MPEG-1: stuffing, a buffer's size, stamps
        place += 1
    if place + 12 > len(data):
        return []
    place += 2 if data[place] & 0xC0 == 0x40 else 0
    return [place, place + 5][: {0x20: 1, 0x30: 2}.get(data[place] & 0xF0, 0)]
