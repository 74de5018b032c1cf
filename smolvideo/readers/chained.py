"""Matroska (WebM), ASF (WMV) and Ogg files that were joined: where each of them begins.

FFmpeg reads on through a second header and puts the frames of both on one clock, or loses them.
Formats: RFC 8794, 4 and 5 (EBML), RFC 9559, 5 (Matroska); ASF specification, 2; RFC 3533, 6 (Ogg
pages).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from smolvideo.readers.heartbeat import beat
from smolvideo.readers.slices import Stretch

EBML = b"\x1a\x45\xdf\xa3"
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
OGG = b"OggS"
_PAGE = 27
"""Bytes of an Ogg page's header before the sizes of its segments."""
_FIRST_OF_STREAM = 2


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
    while position < end:
        beat()
        file.seek(position)
        head = file.read(16)
        id_length = _vint_length(head[:1], 4)
        size_length = _vint_length(head[id_length : id_length + 1], 8)
        if not id_length or not size_length:
            return
        if head.startswith(EBML):
            yield position
        size = int.from_bytes(head[id_length : id_length + size_length], "big")
        size &= (1 << 7 * size_length) - 1
        position += id_length + size_length
        if size != (1 << 7 * size_length) - 1:  # all ones: not known
            position += size


def _asf_headers(file: BinaryIO, end: int) -> Iterator[int]:
    position = 0
    while position + 24 <= end:
        beat()
        file.seek(position)
        head = file.read(24)
        if head.startswith(ASF):
            yield position
        size = int.from_bytes(head[16:], "little")
        if size < 24:
            return
        position += size


def _vint_length(first: bytes, most: int) -> int:
    """Bytes of a number of variable size, by its first one; 0 for what is none."""
    length = 9 - int.from_bytes(first, "big").bit_length()
    return length if length <= most else 0


def _chain_links(file: BinaryIO, end: int) -> Iterator[int]:
    position, begun = 0, True
    yield 0
    while position + _PAGE <= end:
        beat()
        file.seek(position)
        header = file.read(_PAGE + 255)
        if not header.startswith(OGG):
            return
        begins = bool(header[5] & _FIRST_OF_STREAM)
        if begins and not begun:
            yield position
        begun = begins
        segments = header[26]
        position += _PAGE + segments + sum(header[_PAGE : _PAGE + segments])
