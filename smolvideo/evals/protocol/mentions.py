"""Mentions: letters and option texts that an answer names, and the role of each."""

import re
from collections.abc import Sequence

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import answer_phrases
from smolvideo.evals.protocol.normalize import folded
from smolvideo.evals.protocol.option_texts import FIRST_MARK, changes_meaning, is_other_use, marked
from smolvideo.evals.protocol.relations import (
    AFTER,
    BEFORE,
    BEYOND,
    CONTRADICTION,
    STOP,
    Mention,
    related,
)

_MAX_MENTIONS = 300


def mentions(text: str, options: Sequence[str]) -> list[Mention]:
    """Return the mentions in ``undressed`` text, in order; none if there are hundreds."""
    shown = marked(text, options)
    return related(shown, options, _Named(shown, options).found)


_JOINED = "0-9A-Za-z_\u00c0-\u02af\u0370-\u052f\u1e00-\u1fff"
_IN_WORD = re.compile(f"[{_JOINED}]")
_CANDIDATE = re.compile(rf"(?<![{_JOINED}])([A-Za-z\u0391-\u03a9\u0410-\u042f])(?![{_JOINED}])")
_LOOK_ALIKE = {"\u0410": "A", "\u0421": "C", "\u0415": "E", "\u0411": "B"} | {
    "\u0391": "A",
    "\u0392": "B",
    "\u0395": "E",
}
"""Cyrillic and Greek capitals that match one Latin letter both in shape and in alphabet position.

The third Cyrillic letter has the shape of a B, so it matches neither.
"""
_OPEN, _CLOSE = "([{<", ")]}>"
_ENDS = r"[ \"')\]}>]*"
_SENTENCE_ENDS = re.compile(_ENDS + r"(?:$|[.!]*\s*(?:\n|$)|[.!?;])")
_CLAUSE_ENDS = re.compile(_ENDS + r"(?:$|[.!?;\n,:\u3002\uff01\uff1f-])")
_ALL_THERE_IS = re.compile(r"[\"')\]}>]*\s*[.!?,:;\u3001\u3002]*\s*(?:\n|$)")
_ALL_SAID = re.compile(r"[\"')\]}>]*(?:[.!]\s|\s*[.!?,:;\u3001\u3002]*\s*(?:\n|$))")
_DRESS = re.compile(
    r"[\"')\]}>]*\s?(?:[.):;,](?=\s|$|[^\x00-\u04ff])|\)|\s[-\u2013\u2014](?=\s))|\s*\n"
)


class _Named:
    """Letters and option texts in a marked text, classified by their context."""

    def __init__(self, text: str, options: Sequence[str]) -> None:
        self.text = text
        self.options = options
        self.count = len(options)
        self._twins = {
            option.strip().upper(): place
            for place, option in enumerate(options)
            if len(option.strip()) == 1
        }
        self.found = self._candidates()

    # Detection of mentions

    def _candidates(self) -> list[Mention]:
        marks = f"[{chr(FIRST_MARK)}-{chr(FIRST_MARK + 25)}]"
        found: list[Mention] = []
        for match in re.finditer(marks, self.text):
            one = self._text(match) if len(found) <= _MAX_MENTIONS else None
            if one is not None:
                found.append(one)
        small: list[re.Match[str]] = []
        for match in _CANDIDATE.finditer(self.text):
            if len(found) + len(small) > _MAX_MENTIONS:
                return []
            one = self._letter(match)
            if one is not None:
                found.append(one)
            elif match[1].islower():
                small.append(match)
        if len(found) > _MAX_MENTIONS:
            return []
        found += self._small_in_lists(small, found)
        found.sort(key=lambda one: one.start)
        for one in found:
            self._set_how(one)
        return [one for one in found if one.place != BEYOND or self._counts(one, found)]

    def _counts(self, one: Mention, found: Sequence[Mention]) -> bool:
        """Whether a letter beyond the options is an answer, or in a list with an answer."""
        others = [(min(one.end, last.end), max(one.start, last.start)) for last in found]
        return one.how != "named" or any(
            start - end <= AFTER and answer_phrases.JOINS.fullmatch(self.text[end:start])
            for end, start in others
            if end <= start
        )

    def _text(self, match: re.Match[str]) -> Mention | None:
        place, start, end = ord(match[0]) - FIRST_MARK, match.start(), match.end()
        before, after = self._before(start), self.text[end : end + AFTER]
        if is_other_use(before, after, self.options[place]):
            return None
        twins = sum(folded(one) == folded(self.options[place]) for one in self.options) > 1
        if twins or changes_meaning(before, after, place, self.options):
            place = CONTRADICTION
        return Mention(start, end, place, "text")

    def _letter(self, match: re.Match[str]) -> Mention | None:
        start, end, letter = match.start(), match.end(), match[1]
        if self._attached(start, end):
            return None
        bracketed = self._bracketed(start, end)
        if letter.islower() and not bracketed and not self._small_counts(start, end):
            return None
        ends_a_word = bracketed and re.match(rf"[{_JOINED}]", self.text[start - 2 : start - 1])
        if ends_a_word and not answer_phrases.NAMES.search(self._before(start)):
            return None  # person(s)
        if not bracketed and self._function_word(letter, start, end):
            return None
        return Mention(start, end, self._place(letter), "letter")

    def _place(self, letter: str) -> int:
        letter = _LOOK_ALIKE.get(letter, letter).upper()
        place = LETTERS.find(letter)
        if not 0 <= place < self.count:
            return BEYOND if letter in LETTERS else CONTRADICTION
        return place if self._twins.get(letter, place) == place else CONTRADICTION

    def _attached(self, start: int, end: int) -> bool:
        """Whether the letter is part of a longer word or sign: C++, A-frame, Q&A, B's, 5.C"""
        before, after = self.text[max(0, start - 2) : start], self.text[end : end + 3]
        follows_word = _IN_WORD.match(before[:-1]) is not None
        if before[-1:] and before[-1] in "'.@#$%_\\" and follows_word:
            return True
        if before[-1:] in ("-", "&") and follows_word and not self._single(start - 2):
            return not answer_phrases.NAMES.search(self._before(start - 1))
        if after[:1] == "'" and after[1:2].isalpha():
            return True
        leads_word = _IN_WORD.match(after[1:2]) is not None
        if after[:1] in ("-", "&") and leads_word and not self._single(end + 1):
            return True
        if after[:1] in ("+", "#", "@", "_") and not self._single(end + 1):
            return True
        return after[:1] == "." and leads_word

    def _single(self, at: int) -> bool:
        return 0 <= at < len(self.text) and _CANDIDATE.match(self.text, at) is not None

    def _bracketed(self, start: int, end: int) -> bool:
        before = self.text[max(0, start - 3) : start].rstrip(" ")[-1:]
        after = self.text[end : end + 3].lstrip(" ")[:1]
        return bool(before) and before in _OPEN and _CLOSE[_OPEN.index(before)] == after

    def _small_counts(self, start: int, end: int) -> bool:
        """Whether a lower-case letter is marked as an option's letter, or is the whole text."""
        if not self.text.strip(" \n\"'.,:;!()[]{}<>").replace(self.text[start], "", 1):
            return True
        after = self.text[end : end + 3]
        if self._article(start, end):
            return False
        if after[:1] == ")" or (after[:1] in (".", ":") and self._line_start(start)):
            return True
        window = self._before(start)
        if answer_phrases.NAMES.search(window) and not self._noun_follows(end):
            return True
        if not (
            answer_phrases.DECLARES.search(window) or answer_phrases.DECLARES_EAST.search(window)
        ):
            return False
        if self._noun_follows(end):
            return False
        # "it is a" may be a truncated "it is a …".
        return (
            self.text[start] not in "aio"
            or window.rstrip(" \"'(")[-1:] in (":", "=")
            or (after[:1] in (".", ")", ",", ";", "!") or after[:1] == "\n")
        )

    def _article(self, start: int, end: int) -> bool:
        """Whether an ``a`` is before a capital: é a B."""
        return self.text[start] == "a" and re.match(r" [A-Z]", self.text[end : end + 2]) is not None

    def _small_in_lists(
        self, small: Sequence[re.Match[str]], found: Sequence[Mention]
    ) -> list[Mention]:
        """Lower-case letters in one list with letters that count."""
        ends, starts = {one.end for one in found}, {one.start for one in found}
        more = []
        for match in small:
            start, end = match.start(), match.end()
            if (
                self._noun_follows(end)
                or self._article(start, end)
                or LETTERS.find(match[1].upper()) >= self.count
            ):
                continue
            behind = any(
                edge <= start and answer_phrases.JOINS.fullmatch(self.text[edge:start])
                for edge in ends
                if start - edge <= AFTER
            )
            ahead = any(
                end <= edge and answer_phrases.JOINS.fullmatch(self.text[end:edge])
                for edge in starts
                if edge - end <= AFTER
            )
            if behind or ahead:
                more.append(Mention(start, end, self._place(match[1]), "letter"))
        return more

    def _function_word(self, letter: str, start: int, end: int) -> bool:
        """Whether the letter is an article or a conjunction: A red ball, E o gato, I think"""
        if "\u0391" <= letter <= "\u03a9":
            return re.match(r"\s+[\u0370-\u03ff]", self.text[end : end + 4]) is not None
        if letter not in "AEIOUY" and ord(letter) < 0x400:
            return False
        if letter in "\u0410\u0412\u0418\u041a\u041e\u0421\u0423\u042f":
            return re.match(r"\s+[\u0400-\u052f]", self.text[end : end + 4]) is not None
        if letter == "I" and self.count < 9 and self.text[end : end + 2].islower():
            return answer_phrases.JOINED.match(self.text[end : end + AFTER]) is None
        return self._noun_follows(end) and not answer_phrases.NAMES.search(self._before(start))

    def _noun_follows(self, end: int) -> bool:
        window = self.text[end : end + 24]
        if re.match(rf" [{_JOINED}{chr(FIRST_MARK)}-{chr(FIRST_MARK + 25)}]", window) is None:
            return False
        if re.match(rf" (?:[A-Za-z](?![{_JOINED}'-])|\d+[.)])", window):
            return False
        return answer_phrases.FOLLOWS_A_LETTER.match(window) is None

    # Classification by context

    def _before(self, start: int) -> str:
        return self.text[max(0, start - BEFORE) : start]

    def _line_start(self, start: int) -> bool:
        before = self._before(start).rstrip(" \"'([{<")
        return not before or before.endswith("\n")

    def _leads_line(self, start: int, before: str) -> bool:
        """Whether a letter, or ``Option`` and a letter, begins a line."""
        name = answer_phrases.NAMES.search(before)
        return self._line_start(start if name is None else start - len(name[0]))

    def _sentence_start(self, start: int) -> bool:
        before = self._before(start).rstrip(" \"'([{<")
        return not before or STOP.match(before[-1]) is not None

    def _set_how(self, one: Mention) -> None:
        before, after = self._before(one.start), self.text[one.end : one.end + AFTER]
        starts = self._sentence_start(one.start)
        one.alone = starts and _SENTENCE_ENDS.match(after) is not None
        if one.kind == "text":
            declared = answer_phrases.DECLARES.search(
                before
            ) or answer_phrases.DECLARES_EAST.search(before)
            one.how = "declared" if declared else "named"
        elif starts and (_ALL_THERE_IS if self._line_start(one.start) else _ALL_SAID).match(after):
            one.how = "bare"
        elif self._leads_line(one.start, before) and self._dressed(one, after):
            one.how = "listed"
        elif self._declared(before, after):
            one.how = "bare" if answer_phrases.NAMES.search(before) else "declared"
        elif answer_phrases.DECLARES.search(before):
            one.how = "named"  # a remark about an option: option B shows a cat
        elif self._bracketed(one.start, one.end) or (
            starts and answer_phrases.REASONS.match(after)
        ):
            one.how = "listed"

    def _declared(self, before: str, after: str) -> bool:
        if answer_phrases.AFFIRMS.match(after) or answer_phrases.AFFIRMS_EAST.match(after):
            return True
        if answer_phrases.DECLARES_EAST.search(before):
            return True
        if not answer_phrases.DECLARES.search(before):
            return False
        ends = _CLAUSE_ENDS.match(after) or answer_phrases.REASONS.match(after)
        return ends is not None or not answer_phrases.NAMES.search(before)

    def _dressed(self, one: Mention, after: str) -> bool:
        return self._bracketed(one.start, one.end) or _DRESS.match(after) is not None
