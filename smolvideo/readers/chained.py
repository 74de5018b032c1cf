"""Matroska (WebM), ASF (WMV) and Ogg files that were joined: where each of them begins.

FFmpeg reads on through a second header and puts the frames of both on one clock, or loses them.
Where a recording broke off before the next one, its last element ends somewhere in that one: the
header is searched then.
Formats: RFC 8794, 4 and 5 (EBML), RFC 9559, 5 (Matroska); ASF specification, 2; RFC 3533, 6 (Ogg
pages).
"""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from smolvideo.readers.heartbeat import beat
from smolvideo.readers.resuming import find_header
from smolvideo.readers.slices import Stretch

EBML = b"\x1a\x45\xdf\xa3"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
OGG = b"OggS"
_PAGE = 27
"""Bytes of an Ogg page's header before the sizes of its segments."""
_FIRST_OF_STREAM = 2
_LARGEST_ASF_HEADER = 64 * 2**20
_DOUBTED = 8
"""Elements that are searched again for a header: bytes of pictures may look like the last few."""
_ELEMENTS = {EBML, *map(bytes.fromhex, ("18538067", "ec", "bf"))}
"""EBML header, segment, void, checksum."""
_INNER_ELEMENTS = {
    *map(bytes.fromhex, ("114d9b74", "1549a966", "1654ae6b", "1f43b675")),
    *map(bytes.fromhex, ("1c53bb6b", "1941a469", "1043a770", "1254c367")),
    *map(bytes.fromhex, ("e7", "5854", "a7", "ab", "a3", "a0", "af")),
}
"""Those of a segment: seek heads, information, tracks, clusters; cues, attachments, chapters, tags.
Those of a cluster: its time, silent tracks, position, size before it, blocks of three kinds."""


def find_matroska_stretches(file: BinaryIO, end: int) -> list[Stretch]:
    """The stretches of a file that begin with a header of their own."""
    return _between(_ebml_headers(file, end), end, "matroska")


def find_asf_stretches(file: BinaryIO, end: int) -> list[Stretch]:
    """The stretches of a file that begin with a header object."""
    return _between(_asf_headers(file, end), end, "asf")


def find_ogg_stretches(file: BinaryIO, end: int) -> list[Stretch]:
    """The links of a chain of Ogg streams."""
    return _between(_chain_links(file, end), end, "ogg")


def _between(starts: Iterator[int], end: int, demuxer: str) -> list[Stretch]:
    return [Stretch(*bounds, demuxer) for bounds in pairwise([*starts, end])]


def _ebml_headers(file: BinaryIO, end: int) -> Iterator[int]:
    """Elements of known size are stepped over, those of live recordings are gone into."""
    position = 0
    passed: deque[int] = deque([0], maxlen=_DOUBTED)
    live = False
    while position < end:
        beat()
        file.seek(position)
        head = file.read(16)
        step, unknown = _element_length(head, live=live)
        if step is None or position + step > end:
            found = find_header(file, passed[0] + 1, end, EBML, _is_ebml_header)
            if found is None:
                return
            position, live = found, False
            passed.clear()
            passed.append(position)
            continue
        if head.startswith(EBML):
            yield position
            passed.clear()
            live = False
        live = live or unknown
        passed.append(position)
        position += step


def _element_length(head: bytes, *, live: bool) -> tuple[int | None, bool]:
    """Bytes to the next element, and whether that is the first inside this one, of unknown size.
    None where no element is known that begins so.

    What stands in a segment or a cluster is met in ``live`` recordings only.
    """
    id_length = _vint_length(head[:1], 4)
    size_length = _vint_length(head[id_length : id_length + 1], 8)
    known = head[:id_length] in (_ELEMENTS | _INNER_ELEMENTS if live else _ELEMENTS)
    if not id_length or not size_length or not known:
        return None, False
    size = int.from_bytes(head[id_length : id_length + size_length], "big")
    size &= (1 << 7 * size_length) - 1
    unknown = size == (1 << 7 * size_length) - 1  # all ones
    return id_length + size_length + (0 if unknown else size), unknown


def _is_ebml_header(head: bytes) -> bool:
    """Whether a document type that is known stands at its beginning (RFC 8794, 11.2.4)."""
    return any(b"\x42\x82" in head[:64] and kind in head[:64] for kind in (b"matroska", b"webm"))


def _asf_headers(file: BinaryIO, end: int) -> Iterator[int]:
    position = 0
    passed: deque[int] = deque([0], maxlen=_DOUBTED)
    while position < end:
        beat()
        file.seek(position)
        head = file.read(24)
        size = int.from_bytes(head[16:24], "little")
        if len(head) < 24 or size < 24 or position + size > end:
            found = find_header(file, passed[0] + 1, end, ASF, _is_asf_header)
            if found is None:
                return
            position = found
            passed.clear()
            passed.append(position)
            continue
        if head.startswith(ASF):
            yield position
            passed.clear()
        passed.append(position)
        position += size


def _is_asf_header(head: bytes) -> bool:
    """Whether a header object of a size that is real begins there."""
    return 30 <= int.from_bytes(head[16:24], "little") <= _LARGEST_ASF_HEADER


def _vint_length(first: bytes, most: int) -> int:
    """Bytes of a number of variable size, by its first one; 0 for what is none."""
    length = 9 - int.from_bytes(first, "big").bit_length()
    return length if length <= most else 0


def _chain_links(file: BinaryIO, end: int) -> Iterator[int]:
    position, last, begun = 0, 0, True
    yield 0
    while position < end:
        beat()
        file.seek(position)
        header = file.read(_PAGE + 255)
        segments = header[26] if len(header) >= _PAGE else 0
        length = _PAGE + segments + sum(header[_PAGE : _PAGE + segments])
        if not _is_page(header) or position + length > end:
            found = find_header(file, last + 1, end, OGG, _is_page)
            if found is None:
                return
            position = last = found
            continue
        begins = bool(header[5] & _FIRST_OF_STREAM)
        if begins and not begun:
            yield position
        begun, last = begins, position
        position += length


def _is_page(header: bytes) -> bool:
    return len(header) >= _PAGE and header.startswith(OGG + b"\0") and header[5] < 8
