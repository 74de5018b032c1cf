"""Relations between mentions: pairs of letter and text, lists, negations, retractions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from smolvideo.evals.protocol import answer_phrases, hedging
from smolvideo.evals.protocol.normalize import folded

BEFORE, AFTER = 160, 100
BEYOND, CONTRADICTION = -1, -2
"""Values instead of an index: a letter without an option, and a mention of two options."""


@dataclass
class Mention:
    """One letter or option text in a marked text, from ``start`` to ``end``.

    ``how``: ``declared`` if the words around it say that it is the answer; ``bare`` if it is a
    sentence or line of its own; ``listed`` if it begins a line, as in a list of options; ``named``
    otherwise. ``denied``: it is negated or retracted. ``asked``: its sentence is a question.
    ``alone``: its sentence contains nothing else.
    """

    start: int
    end: int
    place: int
    kind: str
    how: Literal["declared", "bare", "listed", "named"] = "named"
    denied: bool = False
    denied_before: bool = False
    asked: bool = False
    alone: bool = False


def related(text: str, options: Sequence[str], found: list[Mention]) -> list[Mention]:
    """Return the mentions with letter and text merged into one, and with negations resolved."""
    return _Related(text, options, found).found


STOP = re.compile(r"[.!?;\n\u3002\uff01\uff1f]")
_LABEL = re.compile(r"[\"')\]}>]*\s*[.):;,=\u2013\u2014-]*\s*[\"'(\[]*(?:(?:the|an?) )?")


class _Related:
    def __init__(self, text: str, options: Sequence[str], found: list[Mention]) -> None:
        self.text = text
        self.options = options
        self.count = len(options)
        self.found = found
        self._pair()
        self._join()
        self._deny()

    def _pair(self) -> None:
        """Merge a letter and the text next to it, which agree or contradict each other."""
        kept: list[Mention] = []
        for one in self.found:
            last = kept[-1] if kept else None
            between = self.text[last.end : one.start] if last is not None else ""
            if (
                last is not None
                and last.kind == "letter"
                and one.kind == "text"
                and (_LABEL.fullmatch(between))
            ):
                last.place = last.place if self._agree(last, one) else CONTRADICTION
                last.end = one.end
                if last.how == "named":
                    last.how = "listed"
                continue
            if (
                last is not None
                and last.kind == "text"
                and one.kind == "letter"
                and (re.fullmatch(r"[\"']? ?[(\[]", between))
            ):
                one.place = one.place if self._agree(one, last) else CONTRADICTION
            kept.append(one)
        self.found = kept

    def _agree(self, letter: Mention, text: Mention) -> bool:
        """Whether a text is the letter's own, or its beginning if the answer is truncated."""
        if not 0 <= letter.place < self.count:
            return False
        return folded(self.options[letter.place]).startswith(folded(self.options[text.place]))

    def _join(self) -> None:
        """A member of a list is not declared instead of the member before it."""
        for last, one in pairwise(self.found):
            between = self.text[last.end : one.start]
            listed = "\n" not in between and answer_phrases.JOINS.fullmatch(between[-BEFORE:])
            if one.how == "declared" and (listed or answer_phrases.JOINED.match(between)):
                one.how = "bare"

    def _deny(self) -> None:
        for at, one in enumerate(self.found):
            last = self.found[at - 1] if at else None
            following = self.found[at + 1].start if at + 1 < len(self.found) else len(self.text)
            one.denied_before = self._denied_before(one, last)
            one.denied = one.denied_before or self._denied_after(one, following)
            one.asked = hedging.is_asked(
                self.text[max(0, one.start - BEFORE) : one.start],
                self.text[one.end : one.end + AFTER],
            )
            if last is not None and answer_phrases.RETRACTS.search(
                self.text[last.end : one.start][-BEFORE:]
            ):
                for earlier in self.found[:at]:
                    earlier.denied = earlier.denied or earlier.place != one.place
        if self.found and answer_phrases.DOUBTS.match(
            self.text[self.found[-1].end :][:AFTER].lstrip(")]}>\"'")
        ):
            self.found[-1].denied = True

    def _denied_before(self, one: Mention, last: Mention | None) -> bool:
        start = max(last.end if last else 0, one.start - BEFORE)
        between = self.text[start : one.start]
        in_list = last is not None and start == last.end and "\n" not in between
        if last is not None and in_list and answer_phrases.JOINS.fullmatch(between):
            return last.denied_before
        clause = STOP.split(between)[-1]
        if last is not None and last.denied and not last.denied_before:
            clause = re.split(r"[,:]|\band\b", clause)[-1]  # drop the previous mention's verdict
        clause = answer_phrases.BREAKS.split(clause)[-1]
        if clause is None:
            return False
        after = self.text[one.end : one.end + AFTER]
        return (
            hedging.hypothetical(between, clause, after)
            or (
                answer_phrases.DENIES_BEFORE.search(clause)
                or answer_phrases.DENIES_EAST_BEFORE.search(clause)
            )
            is not None
        )

    def _denied_after(self, one: Mention, following: int) -> bool:
        after = self.text[one.end : min(following, one.end + AFTER)]
        if one.kind == "letter" or following < one.end + AFTER:
            found = answer_phrases.DENIES_AFTER.match(after) or hedging.DENIED_LATER.match(after)
            # A negation directly before the next mention belongs to that mention.
            if found and (
                found.end() < len(after.rstrip())
                or "\n" in after[found.end() :]
                or following > one.end + AFTER
                or after.rstrip()[-1:] in ".,;!?\n"
                or following == len(self.text)
            ):
                return True
            return answer_phrases.DENIES_EAST_AFTER.match(after) is not None
        clause = answer_phrases.BREAKS.split(re.split(r"[,.;!?\n]", after)[0])[0] or ""
        clause = re.split(r"\b(?:as|which|that|when|while|and|where|who)\b", clause)[0]
        return (
            answer_phrases.DENIES_BEFORE.search(clause)
            or answer_phrases.DENIES_AFTER.match(after)
            or answer_phrases.DENIES_EAST_AFTER.match(after)
        ) is not None
