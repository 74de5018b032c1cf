"""A file or a track → its cues, and sentences about what was guessed and left out."""

from collections.abc import Callable, Iterable
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.frames import SubtitleEvent
from smolvideo.sanitize import display_path
from smolvideo.subtitles.cues import Block, Cue, without_repeats
from smolvideo.subtitles.encodings import Decoded, decode_text
from smolvideo.subtitles.formats import FORMATS, Parsed, parse_text
from smolvideo.subtitles.plain_text import plain_lines
from smolvideo.subtitles.substation import substation_lines
from smolvideo.subtitles.timed import subrip_lines
from smolvideo.text_input import read_file_or_pipe

_MAX_FILE = 32 * 2**20
"""Bytes. The subtitles of a day of talk are below 10 MB."""

OnNotice = Callable[[str], None]
"""Hears a sentence for the user."""


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
    """The cues of a file in order of time, without those that cannot be understood.

    Text that rolls (each cue repeating the last line of the one before) is taken once.
    ``frame_rate`` is asked for frames a second where the file counts frames and does not say;
    ``on_notice`` hears of an encoding that was guessed, of characters and cues that could not be
    read.

    Raises:
        SourceError: the file cannot be read, or nothing in it is a cue.
    """
    shown = display_path(path)
    try:
        content = read_file_or_pipe(path, _MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SourceError(f"cannot read the subtitles {shown}: {reason}") from error
    if len(content) > _MAX_FILE:
        most = _MAX_FILE // 2**20
        raise SourceError(f"{shown} is too large for subtitles: they may have {most} MiB")
    decoded = decode_text(content)
    parsed = parse_text(decoded.text, frame_rate)
    cues = list(without_repeats(parsed.blocks))
    if not cues:
        raise SourceError(f"no subtitles in {shown}", hint=FORMATS)
    for notice in _notices(shown, decoded, parsed):
        on_notice(notice)
    return cues


def parse_subtitles(text: str, *, frame_rate: float | None = None) -> list[Cue]:
    """As ``read_subtitles``, from text; an empty list if there is nothing."""
    try:
        return list(without_repeats(parse_text(text, lambda: frame_rate).blocks))
    except SourceError:
        return []


def cues_of_track(texts: Iterable[SubtitleEvent], *, on_notice: OnNotice = _no_notice) -> list[Cue]:
    """The cues of a text track inside a video file, as clean as those of a file.

    Bytes that are not UTF-8 come as halves of surrogate pairs (Python's ``surrogateescape``): they
    are read in the code page that the whole track is likely to be in.
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
        # ISO-2022 is ASCII between its escapes, and begins anew in each text.
        contents = [
            decode_text(text.text.encode()).text if "\x1b$" in text.text else text.text
            for text in texts
        ]
    for text, content in zip(texts, contents, strict=True):
        lines = content.replace("\r\n", "\n").replace("\r", "\n")
        if text.format in ("ass", "ssa"):
            # Matroska keeps the line of Advanced SubStation without its times, in nine fields.
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
    if decoded.guess is not None:
        yield f"{shown} is not UTF-8; that its encoding is {decoded.guess} is a guess"
    if decoded.bad:
        were = "character was" if decoded.bad == 1 else "characters were"
        yield f"{decoded.bad:,} {were} unreadable in {shown}, shown as \N{REPLACEMENT CHARACTER}"
    if parsed.left_out:
        are = "cue is" if parsed.left_out == 1 else "cues are"
        yield f"{parsed.left_out:,} {are} left out of {shown}: no valid times"
    if parsed.assumed_rate is not None:
        yield f"{shown} counts frames: read at the video's {parsed.assumed_rate:g} a second"
