"""Embedded text subtitles (not image subtitles), read from the packets without a decoder.

Packets of SubRip, WebVTT and plain tracks hold the bare text; MP4's (ETSI TS 126 245, 5.16) begin
with a length of two bytes; Matroska's Advanced SubStation with eight fields before the text.
``smolvideo.subtitles`` removes the markup.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smolvideo.frames import SubtitleEvent
from smolvideo.media_types import CaptionKind, kind_of_title
from smolvideo.readers.encryption import Encryption, encryption_of
from smolvideo.readers.packet_times import Open, demux_tolerant, packet_pts

_TEXT_FORMATS = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}
_MAX_CUE = 2**16
_MAX_CUES = 100_000
_MAX_TITLE = 200
_UNKNOWN_LENGTH = 3.0
"""Duration in seconds of a cue whose packet states none."""


def read_text_track(
    open_: Open, origin: float, encrypted: Sequence[Encryption] = ()
) -> list[SubtitleEvent]:
    """Return the cues of the best unencrypted track, by time; seconds since ``origin``."""
    with open_() as container:
        stream = _preferred_track(container, encrypted)
        if stream is None:
            return []
        name = stream.codec_context.codec.canonical_name
        partial = kind_of_track(stream) is CaptionKind.PARTIAL
        tick = float(stream.time_base)
        texts = []
        for packet in demux_tolerant(container, stream):
            ticks = packet_pts(packet)
            content = bytes(packet) if packet.size else b""
            if ticks is None or not 0 < len(content) < _MAX_CUE:
                continue
            if name == "mov_text":
                content = content[2 : 2 + int.from_bytes(content[:2], "big")]
            text = _text_of(content)
            start = round(ticks * tick - origin, 6)
            length = (packet.duration or 0) * tick or _UNKNOWN_LENGTH
            if text.strip():
                texts.append(SubtitleEvent(start, start + length, text, name, partial))
            if len(texts) >= _MAX_CUES:
                break
    return sorted(texts, key=lambda text: text.start_seconds)


def _text_of(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark.

    Undecodable bytes become lone surrogates (``surrogateescape``): their code page is guessed
    later, from the text of the whole track.
    """
    for mark in (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE):  # ETSI TS 126 245, 5.17
        if content.startswith(mark):
            return content.decode("utf-16", errors="replace")
    return content.decode("utf-8", errors="surrogateescape")


def _preferred_track(container: Any, encrypted: Sequence[Encryption]) -> Any | None:
    """Choose the track with the dialogue: in the language of the default track, else in English,
    else of the first one; within that language preferably without captions for the hard of hearing.

    Forced tracks ("foreign parts only"), signs, songs and commentary come last: they only add to
    audible dialogue, and the model hears none.
    """
    tracks = [
        _Track(stream, kind_of_track(stream))
        for stream in container.streams.subtitles
        if stream.codec_context is not None and stream.codec_context.name in _TEXT_FORMATS
        if encryption_of(encrypted, container, stream) is None
    ]
    if not tracks:
        return None
    first = min(tracks, key=lambda track: track.rank)
    is_partial = first.kind is CaptionKind.PARTIAL
    rivals = [
        track
        for track in tracks
        if track.stream.language == first.stream.language
        and (track.kind is CaptionKind.PARTIAL) is is_partial
    ]
    return min(rivals, key=lambda track: (track.kind, track.rank)).stream


@dataclass(frozen=True)
class _Track:
    stream: Any
    kind: CaptionKind

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        import av

        default = bool(self.stream.disposition & av.stream.Disposition.default)
        is_partial = self.kind is CaptionKind.PARTIAL
        foreign = self.stream.language not in ("eng", "en")
        return is_partial, not default, foreign, self.stream.index


def kind_of_track(stream: Any) -> CaptionKind:
    """Classify a subtitle stream by its dispositions and by the words of its title."""
    import av

    flags = av.stream.Disposition
    partial = flags.forced | flags.comment | flags.descriptions | flags.lyrics | flags.karaoke
    if stream.disposition & (partial | flags.metadata):
        return CaptionKind.PARTIAL
    by_title = kind_of_title(stream.metadata.get("title", "")[:_MAX_TITLE])
    if stream.disposition & (flags.hearing_impaired | flags.captions):
        return max(CaptionKind.HEARING_IMPAIRED, by_title)
    return by_title
