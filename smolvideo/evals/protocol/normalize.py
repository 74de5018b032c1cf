"""Answer text freed from reasoning, tags, boxes and JSON, its characters in one spelling."""

import json
import re
import unicodedata
from typing import Any

_INVISIBLE = dict.fromkeys(
    [
        0xAD,
        0x200B,
        0x200C,
        0x200D,
        0x200E,
        0x200F,
        0x2060,
        0xFE0E,
        0xFE0F,
        0xFEFF,
        *range(0xE000, 0xF900),
    ]
)
"""Zero-width characters and the private use area, which ``option_texts`` uses for its marks."""

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0xA0: 0x20}
_QUOTES = {
    ord(mark): plain
    for marks, plain in (
        ("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4", "'"),
        ("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    )
    for mark in marks
}
_BRACKETS = {
    ord(mark): plain
    for marks, plain in (
        ("\u300c\u300e\u3010\u3008\u300a\u3014\u27e8\u27ea", "("),
        ("\u300d\u300f\u3011\u3009\u300b\u3015\u27e9\u27eb", ")"),
    )
    for mark in marks
}
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63], "-")

_LATEX = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt)?|math(?:bf|rm|sf|it|tt|bb)?|bm|bf|operatorname)\{([^{}\\]{0,200})\}"
)
_TAG = re.compile(
    r"</?(?:em|strong|code|p|span|div|li|ul|ol|h[1-6]|font|mark)(?:\s[^<>]{0,80})?>|<br\s?/?>",
    re.IGNORECASE,
)
_SPECIAL_TOKEN = re.compile(
    r"<\|[\w ]{1,40}\|>|<(?:end_of_utterance|end_of_turn|eos|bos|pad|unk|image|video)>|\[/?INST\]"
    r"|^\s*<s>|</s>\s*$",
    re.IGNORECASE,
)
"""Turn separators of chat templates, which some programs leave in the text."""

# A star between digits is a multiplication sign.
_STARS = re.compile(r"(?<!\d)\*+|\*+(?!\d)")
_UNDERLINES = re.compile(r"(?<!\w)_{1,3}(?=\S)|(?<=[^\W_])_{1,3}(?!\w)")
_FONTS = re.compile(r"<([biu])>([^<>]{0,2000})</\1>", re.IGNORECASE)
_LINE_MARKS = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]|>[ \t]|[-\u2022\u2043\u25cf\u25aa][ \t]"
    r"|[\u2713\u2714\u2705\u2611]|\[[xX]\])[ \t]*",
    re.MULTILINE,
)
_VERDICTS = "\u2713\u2714\u2705\u2611\u2717\u2718\u274c\u2716\u27a1"
"""Ticks, crosses and an arrow; other pictographs carry no meaning."""


def unified(text: str) -> str:
    """NFC with one code point for each width, quotation mark and space; nothing invisible."""
    text = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    text = text.translate(_FULL_WIDTH).translate(_QUOTES)
    return re.sub(r"[^\S\n]+", " ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def folded(text: str) -> str:
    """Key for comparing whole texts: ``unified``, one dash, single spaces, case-folded."""
    return " ".join(unified(text).translate(_DASHES).casefold().split())


def same_length_folded(text: str) -> str:
    """Replace dashes and fold case without changing the length, so that positions stay valid."""
    lowered = text.translate(_DASHES)
    return "".join(low if len(low := one.lower()) == 1 else one for one in lowered)


def undressed(text: str, keep: str = "") -> str:
    """``unified`` text without Markdown, inline HTML and LaTeX fonts; ``Ⓑ`` becomes ``(B)``.

    Pictographs are removed, except those in ``keep``.
    """
    text = unified(_SPECIAL_TOKEN.sub(" ", text))
    kept = set(keep)
    for _ in range(3):  # font commands may be nested
        text = _LATEX.sub(r"\1", text)
    text = (
        _TAG.sub(" ", _FONTS.sub(r"\2", text))
        .replace("\\(", " ")
        .replace("\\)", " ")
        .replace("\\[", " ")
    )
    text = text.replace("\\]", " ").replace("`", "").translate(_BRACKETS)
    text = re.sub(r"\$([A-Za-z])\$", r"\1", text)
    text = _UNDERLINES.sub("", _STARS.sub("", text))
    if not text.isascii():
        text = "".join(one if one in kept else _plain_letter(one) for one in text)
    return _LINE_MARKS.sub("", text).strip()


def _plain_letter(one: str) -> str:
    """Convert circled, squared, bold and double-struck capitals to plain ones; keep the rest."""
    code = ord(one)
    if code < 0x249C or 0x2160 <= code <= 0x217F:
        return one
    for first in (0x1F150, 0x1F170):  # negative circled and squared capitals, which NFKC leaves
        if first <= code < first + 26:
            return f"({chr(ord('A') + code - first)})"
    plain = unicodedata.normalize("NFKC", one)
    if re.fullmatch(r"\([A-Za-z]\)", plain):
        return plain.upper()
    if 0x24B6 <= code <= 0x24E9 or 0x1F130 <= code <= 0x1F149:
        return f"({plain.upper()})"
    if unicodedata.category(one) == "So" and one not in _VERDICTS:
        return " "
    return plain if re.fullmatch("[A-Z]", plain) else one


_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THINKS = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TAGGED = re.compile(
    r"<(answer|final_answer|final|choice|option|letter|ans)>([^<>]{0,2000})</\1>", re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{([^{}]{0,400}(?:\{[^{}]{0,200}\}[^{}]{0,200}){0,3})\}")
_OBJECT = re.compile(r"\{[^{}]{0,4000}\}")
_KEYS = frozenset(
    {"answer", "ans", "choice", "option", "letter", "response", "selection", "prediction", "pred"}
    | {"final_answer", "correct_answer", "finalanswer", "correctanswer", "selected_option"}
    | {"correct_option", "answer_letter", "answer_key"}
)


_VERDICT_KEYS = frozenset({"correct", "is_correct", "valid", "is_valid", "right", "true"})
_MATCHES_NO_OPTION = "?"
"""Placeholder for an object that negates its own answer: it matches no option."""


def final_part(text: str) -> str | None:
    """Return the text after the reasoning blocks, or all of it if there are none.

    None if a reasoning block never ends.
    """
    *_, last = _THOUGHT.split(text)
    return None if _THINKS.search(last) else last.strip()


def enclosed_answers(text: str) -> list[str] | None:
    """Return the delimited answers in their order; None if there are none."""
    found = [match[2] for match in _TAGGED.finditer(text)]
    found = [inner for one in found for inner in _BOXED.findall(one) or [one]]
    if not found:
        found = [match[1] for match in _BOXED.finditer(text)]
    if not found and "{" in text:
        for match in _OBJECT.finditer(text):
            found += _values(match[0])
    return [one.strip() for one in found] or None


def _values(text: str) -> list[str]:
    """Values of the answer keys of a JSON object; a value that is not a string as its JSON."""
    for candidate in (text, text.replace("'", '"')):
        try:
            pairs: Any = json.loads(candidate, object_pairs_hook=list)
        except (ValueError, RecursionError):
            continue
        if any(_denied(key, value) for key, value in pairs):
            return [_MATCHES_NO_OPTION]
        return [
            value if isinstance(value, str) else json.dumps(value)
            for key, value in pairs
            if key.lower().replace(" ", "_").replace("-", "_") in _KEYS
        ]
    return []


def _denied(key: str, value: Any) -> bool:
    """Whether a pair marks an answer as wrong: ``"correct": false``, ``"B": 0``."""
    said = value.strip().lower() if isinstance(value, str) else value
    # `in` also matches 0, which equals False.
    refused = said in (None, False, "false", "no", "wrong", "incorrect", "0")
    return refused and (len(key) == 1 or key.lower().replace(" ", "_") in _VERDICT_KEYS)
