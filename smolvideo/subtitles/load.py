"""Subtitle loading: the file next to a video by its name, or a track; format by content.

Names as players, downloaders and media servers write them: ``film.srt``, ``film.en.srt``,
``film.en.forced.srt``, ``film.forced.en.srt``, ``film.zh-Hant-TW.sdh.srt``, ``film.en-orig.vtt``.
"""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.file_names import normal_form
from smolvideo.frames import SubtitleEvent
from smolvideo.media_types import CaptionKind, kind_of_word, least_complete, words_of
from smolvideo.sanitize import display_path
from smolvideo.subtitles.cues import Block, Cue, plain_lines, without_repeats
from smolvideo.subtitles.encodings import Decoded, decode_text
from smolvideo.subtitles.structured import json3_blocks, sami_blocks, ttml_blocks
from smolvideo.subtitles.timed import (
    has_timing_lines,
    is_microdvd,
    microdvd_blocks,
    rate_needed,
    stated_rate,
    subrip_blocks,
    subrip_lines,
    substation_blocks,
    substation_lines,
    webvtt_blocks,
)
from smolvideo.text_input import read_file_or_pipe

FORMATS = (
    "SubRip (.srt), WebVTT (.vtt), .ass, .ttml, SAMI (.smi), MicroDVD (.sub), MPL2, .sbv and .json3"
    " are read"
)

_SBV_TIMES = re.compile(
    r"^(\d{1,3}:\d\d:\d\d\.\d{3}),(\d{1,3}:\d\d:\d\d\.\d{3})[ \t]*$", re.MULTILINE
)
"""YouTube's captions (.sbv): SubRip without counters, and with a comma instead of the arrow."""
_MPL2_TIMES = re.compile(r"^[ \t]*\[(\d{1,9})\][ \t]*\[(\d{0,9})\]", re.MULTILINE)
_MPL2_RATE = 10.0
"""Units per second. MPL2 is MicroDVD with square brackets and times in tenths of a second."""
_XML = re.compile(r"<(?:\w{1,20}:)?(?:tt|timedtext|transcript)\b", re.IGNORECASE)
_MARKS = re.compile("[\x00\ufeff\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
"""Invisible characters that hide counters and times: zero bytes, byte order and directional marks
(Arabic and Hebrew editors put these at the start of every line)."""


@dataclass(frozen=True)
class Parsed:
    """Blocks in file order; ``left_out`` is the number of cues dropped for invalid times.

    ``assumed_rate`` is the frame rate used for the times if the file does not state it.
    """

    blocks: list[Block]
    left_out: int = 0
    assumed_rate: float | None = None


def parse_text(text: str, frame_rate: Callable[[], float | None]) -> Parsed:
    """Parse ``text`` in its detected format; no blocks if it is in no known format.

    ``frame_rate`` is called if times are frame numbers and the file states no rate.

    Raises:
        SourceError: the frame rate is required and unknown, or the text is refused.
    """
    text = _MARKS.sub("", text)
    text = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    head = text[:4000].lstrip()
    if head.startswith("WEBVTT"):
        return Parsed(*webvtt_blocks(lines))
    if any(line.strip().lower() == "[events]" for line in lines if line[:1] in "[ \t"):
        found = Parsed(*substation_blocks(lines))
        if found.blocks or found.left_out:
            return found
    if head[:6].lower() == "<sami>" or "<sync start" in head.lower():
        return Parsed(*sami_blocks(text))
    if head.startswith("<") and _XML.search(head):
        return Parsed(*ttml_blocks(text))
    if head.startswith("{") and head[1:].lstrip().startswith('"'):
        return Parsed(*json3_blocks(text))
    timed = has_timing_lines(lines)
    if not timed and _SBV_TIMES.search(text):
        return Parsed(*subrip_blocks(_SBV_TIMES.sub(r"\1 --> \2", text).split("\n")))
    if not timed and _MPL2_TIMES.match(head):
        braced = _MPL2_TIMES.sub(r"{\1}{\2}", text).split("\n")
        return Parsed(*microdvd_blocks(braced, _MPL2_RATE))
    if not timed and is_microdvd(lines):
        stated = stated_rate(lines)
        rate = stated or frame_rate()
        if not rate:
            raise rate_needed()
        blocks, left_out = microdvd_blocks(lines, rate)
        return Parsed(blocks, left_out, None if stated else rate)
    return Parsed(*subrip_blocks(lines))


_MAX_FILE = 32 * 2**20
"""Maximum bytes of a file. The subtitles of a day of talk are below 10 MB."""

OnNotice = Callable[[str], None]
"""Callback for messages to the user."""


def _no_notice(_: str) -> None:
    pass


def _no_rate() -> None:
    return None


def read_subtitles(
    path: Path,
    *,
    frame_rate: Callable[[], float | None] = _no_rate,
    on_notice: OnNotice = _no_notice,
) -> list[Cue]:
    """Return the cues of a file by time, without invalid ones.

    Roll-up text (each cue repeats the last line of the one before) is returned once. ``frame_rate``
    is called if times are frame numbers and the file states no rate. ``on_notice`` is called with
    messages about a guessed encoding, and about characters and cues that could not be read.

    Raises:
        SourceError: the file cannot be read, or has no cues.
    """
    shown = display_path(path)
    try:
        content = read_file_or_pipe(path, _MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SourceError(f"cannot read the subtitles {shown}: {reason}") from error
    if len(content) > _MAX_FILE:
        max_mib = _MAX_FILE // 2**20
        raise SourceError(f"{shown} is too large for subtitles: they may have {max_mib} MiB")
    decoded = decode_text(content)
    parsed = parse_text(decoded.text, frame_rate)
    cues = list(without_repeats(parsed.blocks))
    if not cues:
        raise SourceError(f"no subtitles in {shown}", hint=FORMATS)
    for notice in _notices(shown, decoded, parsed):
        on_notice(notice)
    return cues


def parse_subtitles(text: str, *, frame_rate: float | None = None) -> list[Cue]:
    """Parse subtitles in ``text``, as ``read_subtitles``; an empty list if there are none."""
    try:
        return list(without_repeats(parse_text(text, lambda: frame_rate).blocks))
    except SourceError:
        return []


def cues_of_track(texts: Iterable[SubtitleEvent], *, on_notice: OnNotice = _no_notice) -> list[Cue]:
    """Return the cues of an embedded text track, cleaned like those of a file.

    Bytes that are not UTF-8 arrive as lone surrogates (Python's ``surrogateescape``); they are
    decoded in the code page that is most likely for the whole track.
    """
    texts = list(texts)
    whole = "\n".join(text.text for text in texts)
    blocks: list[Block] = []
    if any("\udc80" <= character <= "\udcff" for character in whole):
        decoded = decode_text(whole.encode("utf-8", errors="surrogateescape"))
        contents = [_in_code_page(text.text, decoded) for text in texts]
        for notice in _notices("the text track", decoded, Parsed([])):
            on_notice(notice)
    else:
        # ISO-2022 is ASCII outside its escape sequences, and its state is reset in each packet.
        contents = [
            decode_text(text.text.encode()).text if "\x1b$" in text.text else text.text
            for text in texts
        ]
    for text, content in zip(texts, contents, strict=True):
        lines = content.replace("\r\n", "\n").replace("\r", "\n")
        if text.format in ("ass", "ssa"):
            # A Matroska packet is a Dialogue line without its times, in nine fields.
            shown = substation_lines(lines.split(",", 8)[-1])
        elif text.format in ("subrip", "srt"):
            shown = subrip_lines(lines)
        else:
            shown = plain_lines(lines)
        if shown and text.start_seconds < text.end_seconds:
            blocks.append((text.start_seconds, text.end_seconds, shown))
    return list(without_repeats(blocks))


def _in_code_page(text: str, track: Decoded) -> str:
    content = text.encode("utf-8", errors="surrogateescape")
    return content.decode(track.guess or "utf-8", errors="replace")


def _notices(shown: str, decoded: Decoded, parsed: Parsed) -> Iterable[str]:
    if decoded.guess == "utf-7":
        yield f"{shown} looks like UTF-7, and is read as such: that is a guess"
    elif decoded.guess is not None:
        yield f"{shown} is not UTF-8; that its encoding is {decoded.guess} is a guess"
    if decoded.bad:
        were = "character was" if decoded.bad == 1 else "characters were"
        yield f"{decoded.bad:,} {were} unreadable in {shown}, shown as \N{REPLACEMENT CHARACTER}"
    if parsed.left_out:
        are = "cue is" if parsed.left_out == 1 else "cues are"
        yield f"{parsed.left_out:,} {are} left out of {shown}: no valid times"
    if parsed.assumed_rate is not None:
        yield f"{shown} counts frames: read at the video's {parsed.assumed_rate:g} a second"


SUBTITLE_SUFFIXES = (
    ".srt", ".vtt", ".ass", ".ssa", ".ttml", ".dfxp", ".smi", ".sami", ".srv3", ".srv2", ".srv1",
    ".json3", ".sub", ".sbv",
)  # fmt: skip
"""Suffixes of subtitle files, in order of preference."""

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_SUBTAG = re.compile(r"[a-z0-9]{1,11}")
"""Subtag of a script, region or variant (BCP 47); YouTube also puts a track name there."""
_NAMED_LANGUAGES = frozenset(
    {
        "arabic", "brazilian", "bulgarian", "catalan", "chinese", "croatian", "czech", "danish",
        "dutch", "english", "estonian", "finnish", "french", "german", "greek", "hebrew", "hindi",
        "hungarian", "indonesian", "italian", "japanese", "korean", "latvian", "lithuanian",
        "malay", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian",
        "simplified", "slovak", "slovenian", "spanish", "swedish", "thai", "traditional",
        "turkish", "ukrainian", "vietnamese",
    }
)  # fmt: skip
_ENGLISH = ("en", "eng", "english")
_MAX_PARTS = 6

_VIDEO_SUFFIXES = frozenset(
    {
        ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
        ".ts", ".webm", ".wmv",
    }
)  # fmt: skip
_VOBSUB = b"\x00\x00\x01\xba"
"""First bytes of an MPEG program stream: VobSub's image subtitles also have the suffix .sub."""


def is_sidecar(path: Path, video_path: Path) -> bool:
    """Return whether ``find_sidecar`` would consider a file of this name."""
    same_folder = os.path.realpath(path.parent) == os.path.realpath(video_path.parent)
    return same_folder and _name_of(path, video_path) is not None


def sidecar_kind(path: Path, video_path: Path) -> CaptionKind:
    """Return the kind of captions that a file name states; ``FULL`` if it states none."""
    name = _name_of(path, video_path)
    return CaptionKind.FULL if name is None else name.kind


def find_sidecar(video_path: Path) -> Path | None:
    """Return the subtitle file next to a video: ``film.srt`` or ``film.en.srt`` for ``film.mp4``.

    Order of preference: full dialogue before forced subtitles, signs and commentary; no language or
    English before others; without captions for the hard of hearing, and not automatic; no language
    tag before English; then by suffix, .srt first. A file whose whole name belongs to another video
    of the folder (``film.2.srt`` next to ``film.2.mp4``) is not taken. None if there is none.
    """
    try:
        neighbours = sorted(video_path.parent.iterdir())
    except OSError:
        return None
    others = {
        normal_form(path.stem)
        for path in neighbours
        if path.suffix.lower() in _VIDEO_SUFFIXES and path.name != video_path.name
    } - {normal_form(video_path.stem)}
    ranked = [
        (name, path)
        for path in neighbours
        if (name := _name_of(path, video_path)) is not None
        and normal_form(path.stem) not in others
        and path.is_file()
        and not _is_vobsub(path)
    ]
    return min(ranked, key=lambda one: (one[0].rank, one[1].name))[1] if ranked else None


@dataclass(frozen=True)
class _SidecarName:
    """The parts of a file name between the video's name and the suffix."""

    suffix: str
    language: str = ""
    kind: CaptionKind = CaptionKind.FULL
    number: int = 0

    @property
    def rank(self) -> tuple[bool, bool, CaptionKind, bool, int, int]:
        foreign = self.language not in ("", *_ENGLISH)
        order = SUBTITLE_SUFFIXES.index(self.suffix)
        is_partial = self.kind is CaptionKind.PARTIAL
        return is_partial, foreign, self.kind, self.language != "", self.number, order


def _name_of(path: Path, video_path: Path) -> _SidecarName | None:
    """Parse the file name; None if the file does not belong to the video."""
    suffix = path.suffix.lower()
    if suffix not in SUBTITLE_SUFFIXES:
        return None
    stem = normal_form(path.stem)
    for begins in (normal_form(video_path.name), normal_form(video_path.stem)):
        if stem == begins:
            return _SidecarName(suffix)
        if stem.startswith(begins + "."):
            return _read_parts(stem.removeprefix(begins + ".").split("."), suffix)
    return None


def _read_parts(parts: Iterable[str], suffix: str) -> _SidecarName | None:
    """Parse language, kind and number, in any order; None if a part is none of these.

    ``hi`` is Hindi, but "hearing impaired" if another language is named as well.
    """
    parts = [part.lower() for part in parts]
    if len(parts) > _MAX_PARTS:
        return None
    languages: list[str] = []
    kinds: list[CaptionKind] = []
    number = 0
    for part in parts:
        words = words_of(part)
        of_words = [kind_of_word(word) for word in words]
        if words and None not in of_words:
            kinds.append(least_complete(of_words))
        elif part.isdecimal() and len(part) <= 2:
            number = int(part)
        elif (tag := _language_tag(words)) is not None:
            languages.append(tag)
            kinds.append(least_complete(of_words))
        else:
            return None
    if "hi" in languages and len(languages) > 1:
        languages.remove("hi")
        kinds.append(CaptionKind.HEARING_IMPAIRED)
    if len(languages) > 2:
        return None
    language = languages[0] if languages else ""
    return _SidecarName(suffix, language, least_complete(kinds), number)


def _language_tag(words: list[str]) -> str | None:
    """Return the language of ``zh-Hant-TW``, ``en_US``, ``en-forced`` or ``English (SDH)``."""
    if not words or len(words) > _MAX_PARTS:
        return None
    first, *rest = words
    if not _LANGUAGE.fullmatch(first) and first not in _NAMED_LANGUAGES:
        return None
    return first if all(map(_SUBTAG.fullmatch, rest)) else None


def _is_vobsub(path: Path) -> bool:
    if path.suffix.lower() != ".sub":
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_VOBSUB)) == _VOBSUB
    except OSError:
        return False
