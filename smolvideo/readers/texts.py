"""Subtitles inside a video file, where they are text and not pictures.

Their packets are read as they are; ``smolvideo.subtitles`` cleans them. No decoder is needed: the
text stands in the packets of SubRip, WebVTT and plain tracks, behind a length in MP4's (ETSI TS 126
245, 5.16: two bytes), and behind eight fields in Matroska's Advanced SubStation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolvideo.frames import TimedText
from smolvideo.readers.encryption import Encryption, encryption_of
from smolvideo.readers.timeline import open_container, packet_ticks, sturdy_packets

_TEXT_FORMATS = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}
_LARGEST_CUE = 2**16
_MOST_CUES = 100_000
_UNKNOWN_LENGTH = 3.0
"""Seconds that a text stays where the file does not say until when."""


def read_text_track(
    path: Path, origin: float, encrypted: Sequence[Encryption] = ()
) -> list[TimedText]:
    """The texts of the likeliest clear track, in order of time; seconds since ``origin``."""
    with open_container(path) as container:
        stream = _likeliest(container, encrypted)
        if stream is None:
            return []
        name = stream.codec_context.codec.canonical_name
        tick = float(stream.time_base)
        texts = []
        for packet in sturdy_packets(container, stream):
            ticks = packet_ticks(packet)
            content = bytes(packet) if packet.size else b""
            if ticks is None or not 0 < len(content) < _LARGEST_CUE:
                continue
            if name == "mov_text":
                content = content[2 : 2 + int.from_bytes(content[:2], "big")]
            text = content.decode("utf-8", errors="replace")
            start = round(ticks * tick - origin, 6)
            length = (packet.duration or 0) * tick or _UNKNOWN_LENGTH
            if text.strip():
                texts.append(TimedText(start, start + length, text, name))
            if len(texts) >= _MOST_CUES:
                break
    return sorted(texts, key=lambda text: text.start_seconds)


def _likeliest(container: Any, encrypted: Sequence[Encryption]) -> Any | None:
    """The track that a player would show: the default one, else an English one, else the first."""
    tracks = [
        stream
        for stream in container.streams.subtitles
        if stream.codec_context is not None and stream.codec_context.name in _TEXT_FORMATS
        if encryption_of(encrypted, container, stream) is None
    ]

    def rank(stream: Any) -> tuple[bool, bool, int]:
        import av

        default = bool(stream.disposition & av.stream.Disposition.default)
        return not default, stream.language not in ("eng", "en"), stream.index

    return min(tracks, key=rank, default=None)
