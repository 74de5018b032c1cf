"""Named extractors: which option a text means, or none. Nothing is ever guessed.

``official``  CinePile's own rule, to the letter: JARVVVIS/Adversarial-Refinement@5d252f75,
              utils/eval_utils.py (the same in lmms-eval's task). ``A.``, ``(A)`` and reasons behind
              a letter are wrong under it, and ``Answer: Because …`` is the letter B.
``lenient``   ours: a letter in any of the usual dresses, or the text of exactly one option.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from smolvideo.evals.item import LETTERS

ExtractorName = Literal["official", "lenient"]
EXTRACTORS: tuple[ExtractorName, ...] = get_args(ExtractorName)

How = Literal["letter", "text", "refusal", "unparsable", "empty"]


class Extracted(NamedTuple):
    """``choice`` is the place of the option that the text means, None where it means none.

    ``correct`` is not always ``choice == answer_index``: the official rule also compares the text
    behind the letter.
    """

    choice: int | None
    correct: bool
    how: How


def extract(
    extractor: ExtractorName, text: str, options: Sequence[str], answer_index: int
) -> Extracted:
    """Read an answer. ``options`` and ``answer_index`` are in the order that was shown."""
    if extractor == "official":
        return _official(text, options, answer_index)
    choice, how = lenient_choice(text, options)
    return Extracted(choice, choice == answer_index, how)


def official_parts(text: str) -> tuple[str | None, str]:
    """The letter in capitals (None where there is none) and the text behind it, or all of it."""
    text = text.replace("*", "").strip()
    if re.match(r"^[A-E]$", text, re.IGNORECASE):
        return text.upper(), ""
    found = re.search(r"Answer:\s*([A-E])\)?\.?\s*(.*)", text, re.IGNORECASE)
    return (found[1].upper(), found[2].strip()) if found else (None, text)


def _official(text: str, options: Sequence[str], answer_index: int) -> Extracted:
    letter, rest = official_parts(text)
    right = options[answer_index]
    if letter is None:
        choice, how = _option_of_text(rest, options)
        return Extracted(choice, rest.lower() == right.lower(), how)
    correct = letter == LETTERS[answer_index] and (not rest or rest.lower() == right.lower())
    place = LETTERS.index(letter)
    return Extracted(place if place < len(options) else None, correct, "letter")


def _option_of_text(text: str, options: Sequence[str]) -> tuple[int | None, How]:
    places = [place for place, option in enumerate(options) if option.lower() == text.lower()]
    return (places[0], "text") if len(places) == 1 else (None, _why_none(text))


_LEAD = re.compile(r"^(?:assistant\s*:\s*)?", re.IGNORECASE)
_DRESSED = r"[(\[]?([A-Z])[)\]]?"
# An "a" before a word is an article, unless the word begins a reason.
_AFTER_ANSWER = re.compile(
    r"\b(?:answer|option|choice)(?:\s+key)?\s*(?:is|would be|:|=)?\s*:?\s*(?:option\s+)?"
    rf"[\"'`]?{_DRESSED}(?![\w'\u2019])(?!(?<=a)[^\S\n]+(?!because\b|since\b|as\b|is\b)(?-i:[a-z]))",
    re.IGNORECASE,
)
_BARE = re.compile(rf"^[\"'`]?{_DRESSED}[\"'`]?\s*[.):,;!]?\s*$", re.IGNORECASE)
_LEADING = re.compile(r"^(?:[(\[]([A-Z])[)\]]|([A-Z])\s*[.):;,]|([A-Z])\s+[-\u2013\u2014])(?=\s|$)")
_LINE = re.compile(rf"^{_DRESSED}[.):]?\s*\n")
_BEFORE_REASON = re.compile(r"^([A-Z])\s+(?:because|since|as it|is (?:the )?(?:correct|right))\b")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_REFUSAL = re.compile(
    r"\b(?:sorry|cannot|can't|can not|unable to|not able to|not possible to|impossible to|"
    r"do(?:es)? not (?:provide|show|contain)|not enough information|no information)\b",
    re.IGNORECASE,
)


def lenient_choice(text: str, options: Sequence[str]) -> tuple[int | None, How]:
    """The option that ``text`` means, and by what it was recognised.

    In this order: a bare letter; a letter behind ``Answer:`` and the like; a letter in front; the
    text of one option, whole; a letter before its reason; one bracketed letter; the texts of the
    options inside the answer, if it is one alone. Letters beyond the options do not count.
    """
    text = _LEAD.sub("", text.replace("*", "").strip())
    for pattern in (_BARE, _AFTER_ANSWER, _LINE, _LEADING):
        if (letter := _only_letter(pattern, text, options)) is not None:
            return letter, "letter"
    bare = _plain(re.sub(r"^.*?\banswer(?: is)?:?\s+", "", text, flags=re.IGNORECASE | re.DOTALL))
    for candidate in (_plain(text), bare):
        places = [place for place, option in enumerate(options) if _plain(option) == candidate]
        if candidate and len(places) == 1:
            return places[0], "text"
    for pattern in (_BEFORE_REASON, _BRACKETED):
        if (letter := _only_letter(pattern, text, options)) is not None:
            return letter, "letter"
    return _mentioned(text, options)


def _only_letter(pattern: re.Pattern[str], text: str, options: Sequence[str]) -> int | None:
    """The one letter that a pattern finds; None where it finds none, or several."""
    found = {next(filter(None, match.groups())).upper() for match in pattern.finditer(text)}
    if len(found) != 1:
        return None
    place = LETTERS.index(found.pop())
    return place if place < len(options) else None


def _mentioned(text: str, options: Sequence[str]) -> tuple[int | None, How]:
    """The one option whose text stands in the answer; one inside another does not count twice."""
    said = f" {_plain(text)} "
    inside = [place for place, option in enumerate(options) if f" {_plain(option)} " in said]
    outer = [
        place
        for place in inside
        if not any(
            other != place and f" {_plain(options[place])} " in f" {_plain(options[other])} "
            for other in inside
        )
    ]
    if len(outer) == 1 and len(_plain(options[outer[0]])) > 1:
        return outer[0], "text"
    return None, _why_none(text)


def _plain(text: str) -> str:
    return " ".join(re.sub("[^\\w\\s'\u2019-]", " ", text.casefold()).split())


def _why_none(text: str) -> How:
    if not text.strip():
        return "empty"
    return "refusal" if _REFUSAL.search(text) else "unparsable"
