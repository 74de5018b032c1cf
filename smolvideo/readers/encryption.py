"""Detection of encrypted streams (DRM) from the container, and of the scheme.

A decoder that is fed ciphertext fails, or shows noise without an error, but containers declare the
encryption:

- MP4 and QuickTime (CENC and FairPlay): a sample entry with a `sinf` box, ISO/IEC 14496-12, 8.12;
  its scheme in `schm`, and in `tenc` whether samples are protected at all (ISO/IEC 23001-7, 8.2).
- Matroska and WebM: ContentEncryption of a track entry, RFC 9559, 5.1.4.1.31.
- MPEG transport streams: transport_scrambling_control, ISO/IEC 13818-1, 2.4.3.2; HLS SAMPLE-AES by
  its stream types (Apple, "MPEG-2 Stream Encryption Format for HLS", 2.1).
- MPEG program streams, as on DVDs (CSS): PES_scrambling_control, ISO/IEC 13818-1, 2.4.3.6.
- ASF and WMV: the content encryption objects of the header, ASF specification, 3.14 and 3.15.
- FLV: the filter bit of a tag, Adobe Flash Video specification 10.1, E.4.1.
"""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from smolvideo.readers.base import NotAVideoError
from smolvideo.readers.ffmpeg_input import ByteRange, FileSlice
from smolvideo.readers.mp4_boxes import TOP_LEVEL_KINDS, Box, boxes_at, boxes_in

_MAX_ELEMENTS = 10_000
"""Maximum EBML elements that are read per level; a header has some dozens."""
_MAX_DEPTH_BYTES = 2**20
"""Maximum bytes of one sample entry or track entry that are searched."""
_SCANNED_BYTES = 2**20
"""Bytes searched at the beginning and in the middle of streams without a header: the beginning of a
broadcast can be unencrypted."""
_MIN_SCRAMBLED = 0.05
"""Share of a stream's packets from which on it counts as scrambled: CSS leaves most sectors clear,
and single bits are damage."""
_ENTRY_BYTES = {b"vide": 78, b"soun": 28}
"""Fixed fields of a sample entry before its boxes, by the track's handler; 8 of all others (ISO/IEC
14496-12, 8.5.2.2 and 12)."""
_LOCKED_ENTRIES = {b"encv": "CENC", b"drmi": "FairPlay"}
_SCHEMES = {b"itun": "FairPlay"}
_SYNCS = 4
"""Consecutive sync bytes that identify a transport stream."""
_NULL_PACKETS = 0x1FFF
_PROGRAM_MAP = 2
_SAMPLE_AES_VIDEO = 0xDB
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_ENCRYPTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)


@dataclass(frozen=True)
class Encryption:
    """One encrypted stream, identified by FFmpeg's ``stream_id`` or by its index ``place`` among
    the streams of its ``media`` type; all streams if neither is set. ``media`` is empty if
    unknown."""

    scheme: str
    stream_id: int | None = None
    media: str = ""
    place: int | None = None

    def error(self, name: str) -> NotAVideoError:
        """Return the error for a video of that name; no other reader is tried."""
        return NotAVideoError(
            f"the video of `{name}` is encrypted (DRM: {self.scheme}) and cannot be decoded",
            hint="use a copy without copy protection",
        )

    def covers(self, container: Any, stream: Any) -> bool:
        """Return whether this is the encryption of ``stream`` in an open PyAV container."""
        if self.stream_id is not None:
            return bool(stream.id == self.stream_id)
        if self.place is None:
            return True
        others = [other.index for other in container.streams if other.type == self.media]
        return self.place < len(others) and others[self.place] == stream.index


def encryption_in(path: Path, byte_range: ByteRange | None = None) -> list[Encryption]:
    """Return the encrypted streams that a file, or a byte range of it, declares; empty for unknown
    containers."""
    with (
        path.open("rb") if byte_range is None else io.BufferedReader(FileSlice(path, byte_range))
    ) as file:
        size = file.seek(0, io.SEEK_END)
        head = _read(file, 0, 2048)
        if head[4:8] in TOP_LEVEL_KINDS:
            return list(_in_mp4(file, size))
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return list(_in_matroska(file, size))
        if head[:16] == _ASF_HEADER:
            return list(_in_asf(file, size))
        if head[:3] == b"FLV":
            return list(_in_flv(file, size))
        if head[:4] == b"\x00\x00\x01\xba":
            return list(_in_program_stream(_two_places(file, size, 1)))
        if packet := transport_packet_bytes(head):
            return list(_in_transport_stream(_two_places(file, size, packet[1]), *packet))
    return []


def video_encryption(encrypted: Sequence[Encryption]) -> Encryption | None:
    """Return the first encryption that may apply to the video; None if there is none."""
    return next((one for one in encrypted if one.media in ("", "video")), None)


def encryption_of(
    encrypted: Sequence[Encryption], container: Any, stream: Any
) -> Encryption | None:
    """Return the encryption of one stream of an open PyAV container; None if it is clear."""
    return next((one for one in encrypted if one.covers(container, stream)), None)


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


def _two_places(file: BinaryIO, size: int, length: int) -> bytes:
    """Read from the beginning and the middle of a file, aligned to multiples of ``length``
    bytes."""
    first = _read(file, 0, _SCANNED_BYTES // length * length)
    return first + _read(file, max(len(first), size // 2 // length * length), _SCANNED_BYTES)


# ---------------------------------------------------------------------- MP4, QuickTime


def _in_mp4(file: BinaryIO, size: int) -> Iterator[Encryption]:
    for track in boxes_at(file, 0, size, b"moov", b"trak"):
        header = next(boxes_at(file, *track, b"tkhd"), None)
        handler = next(boxes_at(file, *track, b"mdia", b"hdlr"), None)
        if header is None or handler is None:
            continue
        version = _read(file, header[0], 1)
        id_offset = header[0] + (20 if version == b"\1" else 12)
        track_id = int.from_bytes(_read(file, id_offset, 4), "big")
        media = _read(file, handler[0] + 8, 4)
        for start, end in boxes_at(file, *track, b"mdia", b"minf", b"stbl", b"stsd"):
            for entry in boxes_in(file, start + 8, end):
                scheme = _scheme_of_entry(file, entry, media)
                if scheme:
                    yield Encryption(scheme, track_id, "video" if media == b"vide" else "other")


def _scheme_of_entry(file: BinaryIO, entry: Box, media: bytes) -> str:
    """Return the encryption scheme of one sample entry; empty if it is clear."""
    end = min(entry.end, entry.body + _MAX_DEPTH_BYTES)
    first = entry.body + _ENTRY_BYTES.get(media, 8)
    known = _LOCKED_ENTRIES.get(entry.kind, "")
    for protection in boxes_at(file, first, end, b"sinf"):
        protected = next(boxes_at(file, *protection, b"schi", b"tenc"), None)
        if protected is not None and _read(file, protected[0] + 6, 1) == b"\0":
            return ""
        kind = next(boxes_at(file, *protection, b"schm"), None)
        scheme = _read(file, kind[0] + 4, 4) if kind is not None else b""
        if scheme in _SCHEMES:
            return _SCHEMES[scheme]
        shown = scheme.decode("ascii", "replace") if scheme.isalnum() else ""
        return (known or "CENC") + (f" `{shown}`" if shown else "")
    return known


# ---------------------------------------------------------------------- Matroska, WebM

_SEGMENT, _TRACKS, _TRACK_ENTRY = 0x18538067, 0x1654AE6B, 0xAE
_TRACK_TYPE, _ENCODINGS, _ENCODING, _ENCRYPTION = 0x83, 0x6D80, 0x6240, 0x5035
_ALGORITHM = 0x47E1
_MEDIA_OF_TYPE = {1: "video", 2: "audio", 17: "subtitle"}


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield ``(id, content start, end)`` of the EBML elements in a byte range (RFC 8794)."""
    for _ in range(_MAX_ELEMENTS):
        header = _read(file, start, 12)
        if start >= end or len(header) < 2 or not header[0]:
            return
        id_bytes = 9 - header[0].bit_length()
        first = header[id_bytes] if id_bytes < len(header) else 0
        if id_bytes > 4 or not first:
            return
        size_bytes = 9 - first.bit_length()
        content = start + id_bytes + size_bytes
        raw = int.from_bytes(header[id_bytes : id_bytes + size_bytes], "big")
        unknown = (1 << 7 * size_bytes) - 1
        size = raw & unknown
        stop = end if size == unknown else min(content + size, end)
        yield int.from_bytes(header[:id_bytes], "big"), content, stop
        start = stop


def _elements_at(file: BinaryIO, start: int, end: int, *ids: int) -> Iterator[tuple[int, int]]:
    for name, content, stop in _elements(file, start, end):
        if name != ids[0]:
            continue
        if len(ids) == 1:
            yield content, stop
        else:
            yield from _elements_at(file, content, stop, *ids[1:])


def _in_matroska(file: BinaryIO, size: int) -> Iterator[Encryption]:
    counted: Counter[str] = Counter()
    for track in _elements_at(file, 0, size, _SEGMENT, _TRACKS, _TRACK_ENTRY):
        kind = next(_elements_at(file, *track, _TRACK_TYPE), None)
        number = 0 if kind is None else int.from_bytes(_read(file, kind[0], 1), "big")
        media = _MEDIA_OF_TYPE.get(number, "")
        place = counted[media]
        counted[media] += 1
        for encryption in _elements_at(file, *track, _ENCODINGS, _ENCODING, _ENCRYPTION):
            algorithm = next(_elements_at(file, *encryption, _ALGORITHM), None)
            # Without an algorithm the data are signed, not encrypted (RFC 9559, 5.1.4.1.31.9).
            if algorithm is not None and any(_read(file, algorithm[0], 1)):
                yield Encryption("Matroska ContentEncryption", media=media, place=place)
                break


# ---------------------------------------------------------------------- streams


def transport_packet_bytes(head: bytes) -> tuple[int, int] | None:
    """Return ``(offset of the first sync byte, packet size)`` of a transport stream, else None.

    Packets are 188 bytes, 192 on discs, or 204 with error correction; a recording may begin within
    a packet.
    """
    for length in (188, 192, 204):
        for offset in range(length):
            if head[offset : offset + _SYNCS * length : length] == b"G" * _SYNCS:
                return offset, length
    return None


def _in_transport_stream(data: bytes, offset: int, length: int) -> Iterator[Encryption]:
    whole = np.frombuffer(data, np.uint8)[offset:]
    packets = whole[: len(whole) // length * length].reshape(-1, length)
    packets = packets[(packets[:, 0] == 0x47) & (packets[:, 3] & 0x10 != 0)]  # with a payload
    pids = (packets[:, 1].astype(int) & 0x1F) << 8 | packets[:, 2]
    scrambled = packets[:, 3] & 0xC0 != 0
    for pid in np.unique(pids[scrambled]):
        if scrambled[pids == pid].mean() > _MIN_SCRAMBLED and pid != _NULL_PACKETS:
            yield Encryption("scrambled transport stream", stream_id=int(pid))
    tables = packets[(packets[:, 1] & 0x40 != 0) & ~scrambled]
    listed = (one for packet in tables for one in streams_in_map(packet[:188].tobytes()))
    for pid in dict.fromkeys(pid for kind, pid in listed if kind == _SAMPLE_AES_VIDEO):
        yield Encryption("HLS SAMPLE-AES", stream_id=pid)


def streams_in_map(packet: bytes) -> Iterator[tuple[int, int]]:
    """Yield type and packet id of each stream in the program map table of a packet (ISO/IEC
    13818-1, 2.4.4.8)."""
    start = 5 + packet[4] if packet[3] & 0x20 else 4
    table = packet[start + 1 + packet[start] :] if start < 187 else b""
    if len(table) < 12 or table[0] != _PROGRAM_MAP:
        return
    end = min(len(table), 3 + ((table[1] & 0x0F) << 8 | table[2]) - 4)
    offset = 12 + ((table[10] & 0x0F) << 8 | table[11])
    while offset + 5 <= end:
        yield table[offset], (table[offset + 1] & 0x1F) << 8 | table[offset + 2]
        offset += 5 + ((table[offset + 3] & 0x0F) << 8 | table[offset + 4])


def _in_program_stream(data: bytes) -> Iterator[Encryption]:
    total = scrambled = offset = 0
    while (offset := data.find(b"\x00\x00\x01", offset)) >= 0 and offset + 7 <= len(data):
        flags = data[offset + 6]
        if 0xE0 <= data[offset + 3] <= 0xEF and flags & 0xC0 == 0x80:
            total += 1
            scrambled += bool(flags & 0x30)
        offset += 4
    if scrambled > _MIN_SCRAMBLED * total:
        yield Encryption("CSS or another scrambling of the program stream")


def _in_asf(file: BinaryIO, size: int) -> Iterator[Encryption]:
    header = int.from_bytes(_read(file, 16, 8), "little")
    content = _read(file, 0, min(header, size, _MAX_DEPTH_BYTES))
    if any(guid in content for guid in _ASF_ENCRYPTION):
        yield Encryption("Windows Media DRM")


def _in_flv(file: BinaryIO, size: int) -> Iterator[Encryption]:
    start = int.from_bytes(_read(file, 5, 4), "big") + 4
    for _ in range(200):
        header = _read(file, start, 11)
        if len(header) < 11 or start >= size:
            return
        if header[0] & 0x3F == 0x29:  # video (9) and filtered (0x20)
            yield Encryption("FLV filter")
            return
        start += 15 + int.from_bytes(header[1:4], "big")
