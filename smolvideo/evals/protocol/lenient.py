"""The extractor ``lenient``: an option in any usual notation, in many languages, nothing guessed.

In this order: the whole text is one option; delimited answers (tags, boxes, JSON); letters and
option texts in sentences. Letters that are negated or retracted do not count. A letter is the
answer if it is the only one left and its context says that it is the answer: it is alone, begins
the text with a bracket or full stop after it, or follows ``the answer is`` and the like. If other
letters are mentioned, too, it must be declared after all of them. An ``A`` before a noun is an
article. A letter or text in a question (``B?``) is no answer, nor is one that the text takes back
at its end.

The text of an option counts if a sentence names it and no other option, in full and without
negation; not as a part of another text: ``more than 2``, ``dark red car``, ``you are right``
(option_texts.py has that rule). An option whose text is the letter or the number of another option
(``B`` as option A) counts only together with its own letter, and an option whose text occurs twice
never counts by its text.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import answer_phrases
from smolvideo.evals.protocol.hedging import (
    KNOWS_NOTHING,
    is_question,
    last_retraction,
    left_open,
    withheld,
)
from smolvideo.evals.protocol.mentions import mentions
from smolvideo.evals.protocol.normalize import (
    enclosed_answers,
    final_part,
    folded,
    undressed,
    unified,
)
from smolvideo.evals.protocol.option_texts import OUTER, is_other_use, whole_option
from smolvideo.evals.protocol.relations import Mention

How = Literal["letter", "text", "refusal", "unparsable", "empty"]

MAX_READ = 20_000
"""Maximum characters; a longer text is an answer only if it equals an option."""


_SPEAKER = re.compile(
    r"^\s*(?:(?:assistant|Q\s?:[^\n]*\n\s*A)\s?:"
    r"|(?:sure|certainly|of course|ok|okay|alright|hello|hi|great question)[!.,:](?=\s))\s*",
    re.IGNORECASE,
)
"""A speaker label, the question before it, a greeting."""


def lenient_choice(text: str, options: Sequence[str]) -> tuple[int | None, How]:
    """Return the option that ``text`` means, and what identified it."""
    place, met = _match(text[: MAX_READ * 2], options) if text else (None, False)
    if met:
        return _whole(place, text, options)
    if len(text) > MAX_READ:
        return None, "unparsable"
    rest = final_part(_SPEAKER.sub("", text))
    if rest is None:
        return None, "unparsable"
    apart = enclosed_answers(rest)
    if apart is None:
        return _read(rest, options)
    read = {_read(one, options) for one in apart}
    if len({place for place, _ in read}) == 1:
        return next(iter(read))
    return None, "unparsable"


def _match(text: str, options: Sequence[str]) -> tuple[int | None, bool]:
    """``whole_option``; a question (``red?``) matches, but means no option that is not one."""
    place, met = whole_option(text, options)
    asked = place is not None and is_question(text) and not is_question(options[place])
    return None if asked else place, met


def _whole(place: int | None, text: str, options: Sequence[str]) -> tuple[int | None, How]:
    """Result for a text that is an option; none if it is also the letter of another option."""
    letter = unified(text).strip(OUTER).upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)] and LETTERS.index(letter) != place:
        return None, "unparsable"
    return place, "unparsable" if place is None else "text"


def _read(text: str, options: Sequence[str]) -> tuple[int | None, How]:
    """Read a text, unless what it says is taken back after it: ``Yes. Just kidding.``"""
    place, how = _stated(text, options)
    found = last_retraction(undressed(text, keep="".join(options)))
    if place is None or found is None or _match(text, options)[1]:
        return place, how
    is_no = folded(options[place]).strip(" .") in ("no", "false")
    if found.is_verdict and is_no and not is_question(text):
        return place, how  # No, that is wrong.
    if _stated(found.before, options)[0] is None or _stated(found.rest, options)[0] == place:
        return place, how
    return None, "unparsable"


def _stated(text: str, options: Sequence[str]) -> tuple[int | None, How]:
    # The whole text is an option, with or without markup.
    plain = _unquoted(undressed(text, keep="".join(options)))
    if not plain.strip(" \n.*_"):
        return None, "empty" if not text.strip(" \n.*_") else "unparsable"
    for candidate in (text, plain):
        place, met = _match(candidate, options)
        if met:
            return _whole(place, candidate, options)
    # A letter followed by the text of an option.
    labelled = _labelled(plain, options)
    if labelled is not None:
        return labelled
    if left_open(plain):
        return None, "unparsable"
    # A leading yes or no.
    polar = _polar(plain, options)
    if polar is not None:
        return polar
    # An option after `the answer is`.
    place = _led(plain, options)
    if place is not None:
        return place, "text"
    # Letters, then texts of options in the sentences.
    if withheld(plain):
        return None, "unparsable"
    named = mentions(plain, options)
    for kind in ("letter", "text"):
        place = _decided(named, kind)
        if place is not None:
            return place, kind
    return None, "refusal" if answer_phrases.REFUSES.search(plain) else "unparsable"


def _unquoted(text: str) -> str:
    """Strip quotation marks around the whole text."""
    quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1].strip() if quoted and text.count(text[0]) == 2 else text


_LABEL = re.compile(r"[\"'(\[]*([A-Z])[\"')\]]*\s*(?:[.:),;=-]+\s*|\s)[\"'(\[]*(?=\S)")


def _labelled(text: str, options: Sequence[str]) -> tuple[int | None, How] | None:
    """A letter followed by the whole text of an option, which must match; None for other texts."""
    label = _LABEL.match(text)
    if label is None or LETTERS.index(label[1]) >= len(options):
        return None
    place, met = _match(text[label.end() :], options)
    letter = LETTERS.index(label[1])
    if not met and _is_part_of_another(text[label.end() :], letter, options):
        return None, "unparsable"
    if not met or (label[1] == "A" and label[0].endswith("A ")):
        return None
    own = {letter, place} if folded(options[letter]) != folded(text[label.end() :]) else {letter}
    if len(own) == 1:
        return letter, "letter"
    # A truncated text of its own option is left to the sentence rules.
    cut = place is not None and folded(options[letter]).startswith(folded(options[place]))
    return None if cut else (None, "unparsable")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", folded(text))) - {"a", "an", "the"}


def _is_part_of_another(text: str, letter: int, options: Sequence[str]) -> bool:
    """Whether all words of ``text`` are in another option, and not all in its own: ``B: red``."""
    said = _words(text)
    others = (option for place, option in enumerate(options) if place != letter)
    return bool(said - _words(options[letter])) and any(said <= _words(one) for one in others)


def _led(text: str, options: Sequence[str]) -> int | None:
    """The option that is all of the text after ``the answer is``."""
    lead = answer_phrases.LEADS.match(text)
    if lead is not None and not answer_phrases.DENIES_BEFORE.search(lead[0]):
        rest = text[lead.end() :]
        place, met = _match(rest, options)
        if met and not (place is not None and is_other_use(lead[0], "", options[place])):
            return _whole(place, rest, options)[0]
    return None


_POLAR = frozenset({"yes", "no", "true", "false"})


def _polar(text: str, options: Sequence[str]) -> tuple[int | None, How] | None:
    """A leading yes or no that nothing after it contradicts; None for other texts."""
    if not _POLAR & {folded(option).strip(" .") for option in options}:
        return None
    for rest in _leads_off(text):
        first, _, reason = re.sub(r"[,.;:!\n]", "\0", rest, count=1).partition("\0")
        place, met = _match(first, options)
        if first.strip(" ?").casefold() in _POLAR and met:
            if is_question(re.split(r"[.;!\n]", rest)[0]):
                return None, "unparsable"
            return _unless_doubted(place, reason, options)
    return None


def _leads_off(text: str) -> Iterator[str]:
    """Yield the text, the text after ``Answer:``, and the text after ``the answer is``."""
    yield text
    for _ in range(2):
        lead = answer_phrases.LEADS.match(text)
        if lead is None or answer_phrases.DENIES_BEFORE.search(lead[0]):
            return
        text = text[lead.end() :]
        yield text


def _unless_doubted(
    place: int | None, reason: str, options: Sequence[str]
) -> tuple[int | None, How]:
    others = [folded(option) for at, option in enumerate(options) if at != place]
    said = f" {re.sub(r'[^a-z]+', ' ', folded(reason))} "
    letters = (one for one in mentions(reason, options) if one.kind == "letter")
    doubted = (
        any(f" {other.strip('.')} " in said for other in others)
        or any(not one.denied and one.place != place and one.how != "named" for one in letters)
        or KNOWS_NOTHING.search(reason)
        or re.fullmatch(r"\W*\d+\W*", reason)
    )
    return (None, "unparsable") if doubted or place is None else (place, "text")


def _decided(named: Sequence[Mention], kind: str) -> int | None:
    """The only option that the mentions leave; None if they leave none or several."""
    letters = [one for one in named if one.kind == "letter"]
    if kind == "text":
        # A letter that is not decisive still contradicts the text of another option.
        mine = [one for one in named if one.kind == "text"]
        open_letters = {one.place for one in letters if not one.denied}
        place = _left(mine, strong=("declared", "bare", "listed", "named"))
        return place if place is not None and open_letters <= {place} else None
    place = _left(letters, strong=("declared", "bare", "listed"))
    if place is None:
        return None
    others = (one for one in named if one.kind == "text")
    return place if all(one.denied or one.place == place for one in others) else None


def _left(mentions: Sequence[Mention], strong: Sequence[str]) -> int | None:
    held = [one for one in mentions if not one.denied]
    if not held:
        return None
    places = {one.place for one in held}
    denied = {one.place for one in mentions if one.denied}
    if len(places) == 1:
        place = held[0].place
        sure = any(one.how in strong and not one.asked for one in held)
        return place if sure and place not in denied and place >= 0 else None
    return _declared_last(held, denied)


def _declared_last(held: Sequence[Mention], denied: set[int]) -> int | None:
    """The option declared after all others, if the others are mentioned but never declared."""
    declared = [one for one in held if one.how == "declared" and not one.asked]
    if not declared or len({one.place for one in declared}) != 1:
        return None
    place, first = declared[0].place, declared[0].start
    behind = (one for one in held if one.start > first)
    if place in denied or place < 0 or any(one.place != place for one in behind):
        return None
    if any(one.how == "bare" and one.place != place for one in held):
        return None
    listed = {one.place for one in held if one.how == "listed" and one.start < first}
    # One listed option before it is an answer; several are a repetition of the options.
    return None if len(listed) == 1 and listed != {place} else place
