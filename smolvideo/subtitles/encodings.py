"""Character-encoding detection for subtitle files, with a notice if the encoding is a guess.

Most subtitles are UTF-8 today; most old ones do not state their encoding. A code page is guessed by
a vote of the lines with non-ASCII letters; an undecodable byte costs one character.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from smolvideo.text_input import decode_utf_7

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; UTF-32 before UTF-16, whose mark is a prefix of it."""

_CODE_PAGES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874",
    "iso8859-2", "iso8859-7", "iso8859-9", "koi8-r", "cp866",
    "gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949",
    "mac-roman", "mac-latin2", "cp850", "cp852",
)  # fmt: skip
"""Legacy encodings of subtitles on Windows, DOS, Unix and Macintosh."""
_RARELY = dict.fromkeys(("mac-roman", "mac-latin2", "cp850", "cp852"), 0.9)
"""Prior weights below 1 for rare code pages: they must fit a line better than the others."""

_ISO_2022_JP = ("iso2022_jp_ext", "iso2022_jp_2004", "iso2022_jp_2")
_SHIFTED = (
    (re.compile(rb"\x1b\$\)C"), ("iso2022_kr",)),
    (re.compile(rb"\x1b\$(?:[@AB]|\([CDOPQ])"), _ISO_2022_JP),
    (re.compile(rb"~\{[!-}]{2,}"), ("hz",)),
)
"""Escape sequences of stateful 7-bit encodings, and the codecs to try.

RFC 1468 (ISO-2022-JP), RFC 1557 (ISO-2022-KR), RFC 1843 (HZ)
"""

_MAX_LINES = 60
_MAX_LINE = 400
"""Maximum bytes per line that are analysed."""
_MAX_BAD = 1 / 3
"""Maximum share of a line's non-ASCII bytes that a code page may fail to decode."""
_DAMAGED = 0.8
"""Confidence factor for a code page that cannot decode all of a line."""


@dataclass(frozen=True)
class Decoded:
    """Decoded text. ``guess`` is the code page if it was guessed; ``bad`` is the number of
    undecodable characters, which became U+FFFD."""

    text: str
    guess: str | None = None
    bad: int = 0


def decode_text(content: bytes) -> Decoded:
    """Decode bytes by byte order mark, zero bytes or escape sequences, as UTF-8, else by a
    guess."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], encoding)
    if (wide := _wide_encoding(content)) is not None:
        return _decoded(content, wide)
    if (shifted := _shifted(content)) is not None:
        return shifted
    if (seven_bits := decode_utf_7(content)) is not None:
        return Decoded(seven_bits, "utf-7")
    decoded = _decoded(content, "utf-8")
    if not decoded.bad or _evidence_for_utf8(decoded.text) >= decoded.bad:
        return decoded
    guess = _most_likely_code_page(content)
    if not guess.startswith("cp125"):
        return _decoded(content, guess, guess)
    # Bytes undefined in Windows code pages become control characters, as in the web's tables:
    # https://encoding.spec.whatwg.org/#legacy-single-byte-encodings
    return Decoded(content.decode(guess, errors=_KEEP_BYTE), guess)


def _decoded(content: bytes, encoding: str, guess: str | None = None) -> Decoded:
    text = content.decode(encoding, errors="replace")
    own = "\ufffd".encode(encoding) if encoding.startswith("utf") else None
    return Decoded(text, guess, text.count("\ufffd") - (content.count(own) if own else 0))


def _wide_encoding(content: bytes) -> str | None:
    """Detect UTF-16 without a mark by its zero bytes: times and arrows are ASCII in any
    language."""
    head = content[:4000]
    for arrow, encoding in ((b"-\0-\0>\0", "utf-16-le"), (b"\0-\0-\0>", "utf-16-be")):
        at = head.find(arrow)
        if at >= 0 and at % 2 == 0:
            return encoding
    head = content[:400]
    if head.count(0) <= len(head) // 4:
        return None
    return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"


def _shifted(content: bytes) -> Decoded | None:
    """Decode a stateful 7-bit encoding, with the codec of the fewest bad bytes; None if the text
    has no escape sequences of one."""
    for sign, encodings in _SHIFTED:
        if (signs := len(sign.findall(content))) == 0:
            continue
        found = min((_decoded(content, one) for one in encodings), key=lambda one: one.bad)
        # HZ's escape is printable and may be dialogue; an ESC may be a bad byte of another text.
        if found.bad <= (0 if encodings == ("hz",) else signs):
            return found
    return None


def _evidence_for_utf8(text: str) -> int:
    """Return a score of how improbable the multi-byte sequences of ``text`` are by chance.

    A two-byte character outweighs one bad byte, a longer one more. No text in a code page, of
    twenty languages and as short as one line, scored more than 0.71 of its bad bytes.
    """
    two = three = four = 0
    for character in text:
        if character == "\ufffd" or character < "\x80":
            continue
        two += character < "\u0800"
        three += "\u0800" <= character < "\U00010000"
        four += character >= "\U00010000"
    return two + 3 * three + 6 * four


def _most_likely_code_page(content: bytes) -> str:
    """Return the code page that wins a vote of the lines with non-ASCII bytes.

    Votes are per line, so that a bad byte spoils only its own line's vote.
    """
    votes: Counter[str] = Counter()
    for line in _telling_lines(content):
        weight = sum(byte > 127 for byte in line)
        for code_page, belief in _beliefs(line, weight):
            text = line.decode(code_page, errors="replace")
            spoiled = max(_mixed_words(text), _controls(text) / weight)
            likely = belief * _RARELY.get(code_page, 1.0)
            votes[code_page] += likely * weight * (1 - spoiled)  # type: ignore[assignment]
    return votes.most_common(1)[0][0] if votes else "cp1252"


def _telling_lines(content: bytes) -> list[bytes]:
    lines = dict.fromkeys(
        line.strip()[:_MAX_LINE] for line in content.splitlines() if not line.isascii()
    )
    step = max(1, len(lines) // _MAX_LINES)
    return list(lines)[::step][:_MAX_LINES]


def _beliefs(line: bytes, weight: int) -> Iterator[tuple[str, float]]:
    """Yield code pages with the confidence, 0 to 1, that ``line`` is in them.

    A code page that fails on a few bytes is scored without them.
    """
    beliefs = dict(_detected(line))
    for code_page in _CODE_PAGES:
        text = line.decode(code_page, errors="replace")
        bad = text.count("\ufffd")
        if 0 < bad <= weight * _MAX_BAD:
            rest = text.replace("\ufffd", "").encode(code_page)
            belief = dict(_detected(rest)).get(code_page, 0.0) * _DAMAGED
            beliefs[code_page] = max(belief, beliefs.get(code_page, 0.0))
    yield from beliefs.items()


def _detected(line: bytes) -> Iterator[tuple[str, float]]:
    import chardet

    for found in chardet.detect_all(
        line,
        ignore_threshold=True,
        include_encodings=_CODE_PAGES,
        compat_names=False,
        no_match_encoding="cp1252",
        empty_input_encoding="cp1252",
    ):
        if found["encoding"] is not None:
            yield found["encoding"], found["confidence"]


_LATIN_END = "\u0250"


def _mixed_words(text: str) -> float:
    """Return the share of non-Latin letters next to an ASCII letter: `bientфt` is no word.

    Chinese and Japanese text has a few, as it writes Latin names without blanks.
    """
    foreign = touching = 0
    for before, letter, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if letter >= _LATIN_END and letter.isalpha():
            foreign += 1
            touching += (before.isascii() and before.isalpha()) or (
                after.isascii() and after.isalpha()
            )
    return touching / foreign if foreign else 0.0


def _controls(text: str) -> int:
    """Count C1 control characters, which no subtitle has."""
    return sum("\x80" <= character < "\xa0" for character in text)


_KEEP_BYTE = "smolvideo-keep-byte"


def _kept(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(map(chr, error.object[error.start : error.end])), error.end


codecs.register_error(_KEEP_BYTE, _kept)
