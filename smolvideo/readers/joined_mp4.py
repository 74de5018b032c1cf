"""MP4 parser for concatenated files and for fragments whose decoding times jump.

FFmpeg ignores a second movie box, and sorts fragments of another clock between those of the first.
If a truncated file has another appended to it, its last box extends into the next file: then the
next file-type box is searched.
Fragments and their decoding times: ISO/IEC 14496-12, 8.8.4-8.8.12.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from smolvideo.readers.discontinuities import JUMP_AHEAD_SECONDS, STEP_BACK_SECONDS
from smolvideo.readers.ffmpeg_input import ByteRange, find_header
from smolvideo.readers.file_walk import Mp4
from smolvideo.readers.ipc import beat
from smolvideo.readers.mp4_boxes import TOP_LEVEL_KINDS, Box, box_at, child_box, child_boxes

_DEMUXER = "mov"
_MAX_HEADER = 64 * 2**20
"""Maximum bytes of a movie or fragment box that are read; real ones are far smaller."""


_MEDIA = (b"moov", b"moof", b"mdat")
_MAX_TYPE = Mp4.MAX_TYPE


@dataclass
class _Movie:
    """Byte range of a movie box, and the properties of its first video track."""

    start: int
    end: int
    track: int
    timescale: int
    default_duration: int


def find_byte_ranges(file: BinaryIO, end: int, begin: int = 0) -> tuple[list[ByteRange], int]:
    """Return the byte ranges that are on one clock each, by the decoding times of fragments, and
    the end that the last box states."""
    boxes = list(_boxes(file, begin, end))
    indexed = any(box.kind in (b"sidx", b"mfra") for box in boxes)
    byte_ranges: list[ByteRange] = []
    base, start, head, gap = begin, begin, b"", 0
    movie: _Movie | None = None
    expected: float | None = None
    has_media = False  # a truncated recording may have no movie box
    for box in boxes:
        has_media = has_media or box.kind in _MEDIA
        # A new file, its movie box, or a fragment that may be on another clock.
        if box.kind == b"ftyp" and has_media:
            byte_ranges.append(ByteRange(start, box.start, _DEMUXER, head, gap))
            base = start = box.start
            head, gap, movie, expected, has_media = b"", 0, None, None, False
        elif box.kind == b"moov" and movie is None:
            movie = _read_movie(file, box)
        elif box.kind == b"moof" and movie is not None:
            span = _span(_read(file, box), movie)
            if span is None:
                continue
            if expected is not None and _is_break(span[0] - expected, indexed=indexed):
                byte_ranges.append(ByteRange(start, box.start, _DEMUXER, head, gap))
                start = box.start
                head, gap = _opening(file, base, movie.end, start)
            expected = span[1]
    return [*byte_ranges, ByteRange(start, end, _DEMUXER, head, gap)], _end_of(file, boxes, end)


def _end_of(file: BinaryIO, boxes: list[Box], end: int) -> int:
    """Return the stated end of the last box that has a valid name, and either fits or is of a known
    kind."""
    named = (box for box in reversed(boxes) if _is_name(box.kind))
    last = next((_box_at(file, box.start, end) for box in named), None)
    if last is None:
        return end
    if last.end > end and last.kind not in TOP_LEVEL_KINDS:
        return last.start
    after = _box_at(file, last.end, end)
    return after.end if after is not None and after.kind in TOP_LEVEL_KINDS else last.end


def _is_name(kind: bytes) -> bool:
    return kind in TOP_LEVEL_KINDS or kind.decode("latin-1").isprintable()


def _is_break(step: float, *, indexed: bool) -> bool:
    return step < -STEP_BACK_SECONDS or (step > JUMP_AHEAD_SECONDS and not indexed)


def _opening(file: BinaryIO, base: int, end: int, start: int) -> tuple[bytes, int]:
    """Return the bytes from ``base`` to the end of the movie box with the header of a free box that
    extends to ``start``, and the length of its body."""
    file.seek(base)
    opening = file.read(end - base)
    free = start - end
    if free < 16:
        return opening, 0
    header = (1).to_bytes(4, "big") + b"free" + free.to_bytes(8, "big")
    return opening + header, free - len(header)


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[Box]:
    """Yield the top-level boxes of all files in a byte range; the last box of a truncated file is
    cut where the next file begins."""
    last: Box | None = None
    has_movie = is_searched = False
    while position < end:
        beat()
        box = _box_at(file, position, end)
        sound = box is not None and _is_sound(file, box, end, has_movie=has_movie)
        if box is not None and last is not None and last.kind in _MEDIA and box.kind != b"moof":
            sound = sound and not _follows_type(file, box)
        # After an implausible box, search for the next file.
        if not sound and not is_searched:
            begin = _next_file(file, position if last is None else last.start, end)
            is_searched = begin is None
            if begin is not None:
                if last is not None:
                    yield last._replace(end=min(last.end, begin))
                if box is not None and box.end > begin > box.start >= (last.end if last else 0):
                    yield box._replace(end=begin)
                position, last, has_movie = begin, None, False
                continue
        if box is None:
            break
        if last is not None:
            yield last
        last = box._replace(end=min(box.end, end))
        has_movie = has_movie or box.kind == b"moov"
        position = box.end
    if last is not None:
        yield last


def _box_at(file: BinaryIO, position: int, end: int) -> Box | None:
    """Parse a box header as ``box_at`` does; None also for a kind that is not ASCII."""
    box = box_at(file, position, end)
    return box if box is not None and box.kind.isascii() else None


def _is_sound(file: BinaryIO, box: Box, end: int, *, has_movie: bool) -> bool:
    """Return whether a box is complete, and of a known kind or followed by one of a known kind."""
    file.seek(box.start)
    to_the_end = file.read(4) == bytes(4)
    if box.end > end or (to_the_end and not (box.kind == b"mdat" and has_movie)):
        return False
    if box.kind in TOP_LEVEL_KINDS or box.end == end:
        return True
    after = _box_at(file, box.end, end)
    return after is not None and after.kind in TOP_LEVEL_KINDS and after.end <= end


def _follows_type(file: BinaryIO, box: Box) -> bool:
    """Return whether a file-type box ends where ``box`` begins."""
    start = max(0, box.start - _MAX_TYPE)
    file.seek(start)
    before = file.read(box.start - start)
    offset = before.rfind(b"ftyp") - 4
    return offset >= 0 and _number(before, offset) == len(before) - offset


def _next_file(file: BinaryIO, start: int, end: int) -> int | None:
    """Return where the first box of the next file after ``start`` begins."""
    found = find_header(file, start + 5, end, b"ftyp", bool)
    while found is not None and not _begins_file(file, found - 4, end):
        found = find_header(file, found + 1, end, b"ftyp", bool)
    return None if found is None else found - 4


def _begins_file(file: BinaryIO, position: int, end: int) -> bool:
    """Return whether a file-type box begins at ``position`` and a box of a known kind follows."""
    box = _box_at(file, position, end)
    if box is None or not 16 <= box.end - position <= _MAX_TYPE:
        return False
    file.seek(box.body)
    brand = file.read(4)
    after = _box_at(file, box.end, end)
    return (
        brand.isascii() and _is_name(brand) and after is not None and after.kind in TOP_LEVEL_KINDS
    )


def _read(file: BinaryIO, box: Box) -> bytes:
    file.seek(box.body)
    return file.read(min(box.end - box.body, _MAX_HEADER))


def _number(data: bytes, offset: int, size: int = 4) -> int:
    return int.from_bytes(data[offset : offset + size], "big")


def _read_movie(file: BinaryIO, box: Box) -> _Movie:
    data = _read(file, box)
    found = _Movie(box.start, box.end, 0, 0, 0)
    for kind, track in child_boxes(data):
        header, media = child_box(track, b"tkhd"), child_box(track, b"mdia")
        if kind == b"trak" and child_box(media, b"hdlr")[8:12] == b"vide" and not found.track:
            clock = child_box(media, b"mdhd")
            found.track = _number(header, 20 if header[:1] == b"\x01" else 12)
            found.timescale = _number(clock, 20 if clock[:1] == b"\x01" else 12)
    for kind, body in child_boxes(child_box(data, b"mvex")):
        if kind == b"trex" and _number(body, 4) == found.track:
            found.default_duration = _number(body, 12)
    return found


def _span(fragment: bytes, movie: _Movie) -> tuple[float, float] | None:
    """Return when the decoding of a fragment's video begins and ends, in seconds; None without
    video."""
    if not movie.timescale:
        return None
    for kind, track in child_boxes(fragment):
        header, clock = child_box(track, b"tfhd"), child_box(track, b"tfdt")
        if kind != b"traf" or not clock or _number(header, 4) != movie.track:
            continue
        start = _number(clock, 4, 8 if clock[0] == 1 else 4)
        default = _default_duration(header, movie)
        length = sum(
            _run_duration(body, default) for name, body in child_boxes(track) if name == b"trun"
        )
        return start / movie.timescale, (start + length) / movie.timescale
    return None


def _default_duration(header: bytes, movie: _Movie) -> int:
    flags = _number(header, 1, 3)
    if not flags & 0x08:
        return movie.default_duration
    return _number(header, 8 + (8 if flags & 0x01 else 0) + (4 if flags & 0x02 else 0))


def _run_duration(run: bytes, default: int) -> int:
    flags, count = _number(run, 1, 3), _number(run, 4)
    if not flags & 0x100:
        return count * default
    offset = 8 + (4 if flags & 0x01 else 0) + (4 if flags & 0x04 else 0)
    width = 4 * sum(bool(flags & flag) for flag in (0x100, 0x200, 0x400, 0x800))
    count = min(count, max(0, len(run) - offset) // width)
    return sum(_number(run, offset + width * sample) for sample in range(count))
