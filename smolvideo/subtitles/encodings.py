"""Bytes of an unknown encoding → text, and a sentence where the encoding is a guess.

Most subtitles are UTF-8 today, and most old ones do not say what they are. A code page is guessed
from the lines that have letters of other alphabets; one bad byte costs one character.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Those of UTF-32 first: they begin as that of UTF-16 does."""

_CODE_PAGES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874",
    "iso8859-2", "iso8859-7", "iso8859-9", "koi8-r", "cp866",
    "gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949",
    "mac-roman", "mac-latin2", "cp850", "cp852",
)  # fmt: skip
"""What subtitles were written in on Windows and DOS, on the Unix and the Macintosh of the time."""
_RARELY = dict.fromkeys(("mac-roman", "mac-latin2", "cp850", "cp852"), 0.9)
"""Weights of code pages that few subtitles are in, all below 1: they must explain a line better."""

_ISO_2022_JP = ("iso2022_jp_ext", "iso2022_jp_2004", "iso2022_jp_2")
_SHIFTED = (
    (re.compile(rb"\x1b\$\)C"), ("iso2022_kr",)),
    (re.compile(rb"\x1b\$(?:[@AB]|\([CDOPQ])"), _ISO_2022_JP),
    (re.compile(rb"~\{[!-}]{2,}"), ("hz",)),
)
"""Signs of the encodings that write all letters as ASCII between shifts, and their names.

RFC 1468 (ISO-2022-JP), RFC 1557 (ISO-2022-KR), RFC 1843 (HZ)
"""

_MAX_LINES = 60
_MAX_LINE = 400
"""Bytes of a line that are looked at."""
_MAX_BAD = 1 / 3
"""Of the bytes above 127 in a line, the share that a code page may be unable to read."""
_DAMAGED = 0.8
"""Belief in a code page that cannot read all of a line."""


@dataclass(frozen=True)
class Decoded:
    """The text; ``guess`` is the code page where it was guessed; ``bad`` are characters that could
    not be read and became U+FFFD.
    """

    text: str
    guess: str | None = None
    bad: int = 0


def decode_text(content: bytes) -> Decoded:
    """Text of an unknown encoding: by its mark, zero bytes or shifts, as UTF-8, else as a guess."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], encoding)
    if (wide := _wide_encoding(content)) is not None:
        return _decoded(content, wide)
    if (shifted := _shifted(content)) is not None:
        return shifted
    decoded = _decoded(content, "utf-8")
    if not decoded.bad or _evidence_for_utf8(decoded.text) >= decoded.bad:
        return decoded
    guess = _likeliest_code_page(content)
    if not guess.startswith("cp125"):
        return _decoded(content, guess, guess)
    # What Windows leaves undefined are control characters, as in the web's tables:
    # https://encoding.spec.whatwg.org/#legacy-single-byte-encodings
    return Decoded(content.decode(guess, errors=_KEEP_BYTE), guess)


def _decoded(content: bytes, encoding: str, guess: str | None = None) -> Decoded:
    text = content.decode(encoding, errors="replace")
    own = "\ufffd".encode(encoding) if encoding.startswith("utf") else None
    return Decoded(text, guess, text.count("\ufffd") - (content.count(own) if own else 0))


def _wide_encoding(content: bytes) -> str | None:
    """UTF-16 without a mark, by its zero bytes: times and arrows are ASCII in every language."""
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
    """Text of an encoding with shifts, whose signs no other text holds; None where it has none.

    The encoding with the fewest bad bytes is taken.
    """
    for sign, encodings in _SHIFTED:
        if (signs := len(sign.findall(content))) == 0:
            continue
        found = min((_decoded(content, one) for one in encodings), key=lambda one: one.bad)
        # HZ's sign is printable, and may be said; an escape may be a bad byte of other text.
        if found.bad <= (0 if encodings == ("hz",) else signs):
            return found
    return None


def _evidence_for_utf8(text: str) -> int:
    """How little chance would write the sequences of several bytes in ``text``.

    A character of two bytes outweighs one bad byte, a longer one more. No text of a code page, in
    twenty languages and as short as one line, came to more than 0.71 of its bad bytes.
    """
    two = three = four = 0
    for character in text:
        if character == "\ufffd" or character < "\x80":
            continue
        two += character < "\u0800"
        three += "\u0800" <= character < "\U00010000"
        four += character >= "\U00010000"
    return two + 3 * three + 6 * four


def _likeliest_code_page(content: bytes) -> str:
    """The code page that the lines with bytes above 127 vote for, each with its belief.

    Line by line, so that a bad byte spoils the vote of its own line alone.
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
    """Code pages and how far they explain ``line``, from 0 to 1.

    A code page that cannot read a few of the bytes is asked without them.
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
    """The share of the letters of other alphabets that touch an ASCII letter: `bientфt` is no word.

    Chinese and Japanese write Latin names without blanks, but few of them.
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
    """How many characters are of the C1 controls, which no subtitle has."""
    return sum("\x80" <= character < "\xa0" for character in text)


_KEEP_BYTE = "smolvideo-keep-byte"


def _kept(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(map(chr, error.object[error.start : error.end])), error.end


codecs.register_error(_KEEP_BYTE, _kept)
