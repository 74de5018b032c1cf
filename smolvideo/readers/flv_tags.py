"""FLV tag parser: time stamps from the tag headers, and the parts of concatenated FLV files.

FFmpeg's demuxer ends at a second file header. Format: Adobe Flash Video File Format Specification
10.1, annex E, and Enhanced RTMP (Veovera) for newer codecs.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from smolvideo.readers.discontinuities import Lead, Part, Stamps, find_breaks, find_lead, make_part
from smolvideo.readers.ffmpeg_input import ByteRange
from smolvideo.readers.file_walk import Flv, next_file
from smolvideo.readers.ipc import beat

_AUDIO, _VIDEO, _SCRIPT = 8, 9, 18
_KINDS = (_AUDIO, _VIDEO, _SCRIPT)
_TAG, _TRAILER = 11, 4
"""Bytes of a tag header, and of the previous-tag size after each tag."""
_PEEK = 10
"""Bytes of a video tag's body that hold its type, codec and composition offset."""
_WITH_PACKET_TYPE = (7, 12, 13)
"""Codecs (AVC, HEVC, AV1) whose tags hold a packet type and a composition-time offset."""
_SEQUENCE_HEADER, _FRAMES, _FRAMES_WITHOUT_OFFSET = 0, 1, 3
_KEY_FRAME, _COMMAND = 1, 5


@dataclass
class _Tags:
    """Video tags: byte positions and ends, DTS (``decoded``) and PTS (``shown``) in milliseconds,
    and key-frame flags. Also the positions and times of all audio tags, the positions of file
    headers, the byte ranges of sequence headers, where the first file begins and the last tag
    ends, and where a file of another format follows it."""

    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    other_positions: list[int] = field(default_factory=list)
    other_times: list[int] = field(default_factory=list)
    file_headers: list[int] = field(default_factory=list)
    sequence_headers: list[tuple[int, int]] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    other: int | None = None


def find_flv_parts(path: Path, begin: int, end: int) -> tuple[list[Part], int]:
    """Return the parts of a file that are on one clock, in order (empty if there is no video), and
    the end of its last tag according to the tag's size. The file is in the bytes ``begin`` to
    ``end``, in which files of other formats may follow it."""
    with path.open("rb") as file:
        tags = _read_tags(file, begin, end)
        end = end if tags.other is None else tags.other
        if not tags.positions:
            return [], tags.end
        # Split at clock discontinuities and at file headers.
        stamps = _stamps(tags.positions, tags.decoded, tags.shown, tags.keys)
        others = _stamps(tags.other_positions, tags.other_times, tags.other_times)
        headers = np.searchsorted(stamps.positions, tags.file_headers)
        inner = {*find_breaks(stamps, others), *map(int, headers)} - {0, len(stamps)}
        cuts = [0, *sorted(inner), len(stamps)]
        within = [stamps.within(*indices) for indices in pairwise(cuts)]
        # The byte range of each part, with the headers to put in front of it.
        first, last_end, lost = _around(tags, cuts, end)
        starts = [(first, b""), *(_joint(file, tags, index) for index in cuts[1:-1])]
        ends = [*(tags.ends[index - 1] for index in cuts[1:-1]), last_end]
        parts = [
            replace(make_part(ByteRange(start, last, "flv", head), one), lost_before=is_lost)
            for one, (start, head), last, is_lost in zip(within, starts, ends, lost, strict=True)
        ]
        parts[-1] = replace(parts[-1], lost_after=last_end < end)
        # A part that begins within a GOP needs the tags from the last key frame on.
        for index in range(1, len(parts)):
            lead = find_lead(parts, within, index)
            if lead is not None:
                start = int(within[index].positions[0])
                head = _opening(file, tags, start) + _lead_in(file, tags, lead)
                byte_range = replace(parts[index].byte_range, start=start, head=head)
                parts[index] = replace(parts[index], byte_range=byte_range)
    return parts, tags.end


def _lead_in(file: BinaryIO, tags: _Tags, lead: Lead) -> bytes:
    """Return the tags that the first frames of a part refer to, shifted to its clock."""
    found = []
    for start, end in zip(tags.positions, tags.ends, strict=True):
        if lead.positions[0] <= start < lead.end:
            shift = lead.shifts[bisect_right(lead.positions, start) - 1]
            tag = bytearray(_bytes(file, start, end))
            time = (tag[7] << 24 | int.from_bytes(tag[4:7], "big")) + round(1000 * shift)
            time %= 2**32
            tag[4:8] = (time & 0xFFFFFF).to_bytes(3, "big") + bytes([time >> 24])
            found.append(bytes(tag))
    return b"".join(found)


def _around(tags: _Tags, cuts: Sequence[int], end: int) -> tuple[int, int, list[bool]]:
    """Return where the first file with video begins, where the last one ends, and for each part
    from the tags at ``cuts`` on whether files without video precede it."""
    headers = np.asarray(tags.file_headers, np.int64)
    before = [int((headers <= tags.positions[cut]).sum()) for cut in cuts[:-1]]
    passed = [1, *(int((headers < tags.ends[cut - 1]).sum()) + 1 for cut in cuts[1:-1])]
    later = headers[headers >= tags.ends[-1]]
    lost = [count > expected for count, expected in zip(before, passed, strict=True)]
    first = int(headers[before[0] - 1]) if lost[0] else tags.begin
    return first, int(later[0]) if len(later) else end, lost


def _joint(file: BinaryIO, tags: _Tags, index: int) -> tuple[int, bytes]:
    """Return from which byte the part that begins with video tag ``index`` can be read, and the
    bytes to put in front of it."""
    begin, end = tags.ends[index - 1], tags.positions[index]
    headers = [position for position in tags.file_headers if begin <= position < end]
    if headers:
        return headers[-1], b""
    return end, _opening(file, tags, end)


def _opening(file: BinaryIO, tags: _Tags, position: int) -> bytes:
    """Return the file header and the last sequence header before ``position``."""
    before = [one for one in tags.sequence_headers if one[0] < position]
    return _bytes(file, tags.begin, tags.begin + 13) + (
        _bytes(file, *before[-1]) if before else b""
    )


def _bytes(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _stamps(
    positions: list[int], decoded: list[int], shown: list[int], keys: list[bool] | None = None
) -> Stamps:
    return Stamps(
        np.asarray(decoded, dtype=np.float64) / 1000,
        np.asarray(shown, dtype=np.float64) / 1000,
        np.asarray(positions, dtype=np.int64),
        None if not keys or not any(keys) else np.asarray(keys, dtype=np.bool_),
    )


def _read_tags(file: BinaryIO, begin: int, end: int) -> _Tags:
    tags = _Tags(begin=begin)
    position = begin
    while position + _TAG <= end:
        beat()
        file.seek(position)
        header = file.read(_TAG + _PEEK)
        if header.startswith(Flv.magic):
            tags.file_headers.append(position)
            position += int.from_bytes(header[5:9], "big") + _TRAILER
            continue
        size = int.from_bytes(header[1:4], "big")
        tag_end = position + _TAG + size + _TRAILER
        if header[0] & 0x1F not in _KINDS or not _is_whole(file, tag_end, size):
            # Damage, or a truncated recording to which the next one was appended.
            found = next_file(file, position, end, Flv, position)
            if found is None:
                tags.end = tag_end if header[0] & 0x1F in _KINDS and tag_end > end else position
                return tags
            position, kind = found
            if kind is not Flv:
                tags.end = tags.other = position
                return tags
            continue
        _note(tags, position, tag_end, header)
        position = tag_end
    tags.end = position if position == end else position + _TAG
    return tags


def _is_whole(file: BinaryIO, tag_end: int, size: int) -> bool:
    file.seek(tag_end - _TRAILER)
    stored = file.read(_TRAILER)
    return len(stored) == _TRAILER and int.from_bytes(stored, "big") in (_TAG + size, 0)


def _note(tags: _Tags, position: int, tag_end: int, header: bytes) -> None:
    kind = header[0] & 0x1F
    time = header[7] << 24 | int.from_bytes(header[4:7], "big")
    if kind != _VIDEO:
        if kind == _AUDIO:
            tags.other_positions.append(position)
            tags.other_times.append(time)
        return
    body = header[_TAG:]
    if len(body) < 5 or tag_end - position <= _TAG + _TRAILER:
        return
    if body[0] & 0x80:
        packet, offset = body[0] & 0x0F, body[5:8]
        command = body[0] >> 4 & 7 == _COMMAND
    else:
        plain = body[0] & 0x0F not in _WITH_PACKET_TYPE
        packet, offset = (_FRAMES_WITHOUT_OFFSET, b"") if plain else (body[1], body[2:5])
        command = body[0] >> 4 == _COMMAND
    if packet == _SEQUENCE_HEADER:
        tags.sequence_headers.append((position, tag_end))
    if command or packet not in (_FRAMES, _FRAMES_WITHOUT_OFFSET):
        return
    later = int.from_bytes(offset, "big", signed=True) if packet == _FRAMES else 0
    tags.positions.append(position)
    tags.ends.append(tag_end)
    tags.decoded.append(time)
    tags.shown.append(time + later)
    tags.keys.append(body[0] >> 4 & 7 == _KEY_FRAME)
