"""Answer rules of the tools that publish scores, reproduced exactly, oddities included.

``cinepile``             JARVVVIS/Adversarial-Refinement@5d252f75, utils/eval_utils.py; the same in
                         lmms-eval's task. ``A.``, ``(A)`` and reasons after a letter are wrong
                         under it, and ``Answer: Because …`` is the letter B.
``lmms-eval:videomme``   EvolvingLMMs-Lab/lmms-eval@75571cfe, tasks/_task_utils/mcq_extract.py with
                         the letters A to D: the best kind of position wins, then the last of it.
``lmms-eval:mvbench``    the same, tasks/mvbench/utils.py: the first of A to E that is a word after
                         most punctuation is removed, articles included.
``lmms-eval:egoschema``  the same, tasks/egoschema/utils.py: among the letters before a space or
                         full stop or in brackets, the one whose last occurrence is earliest.
``vlmevalkit:videomme``  open-compass/VLMEvalKit@e8e78f05, dataset/utils/videomme.py: the first of
                         the capitals A to D, even in words, after set phrases are removed.
``vlmevalkit:mvbench``   the same, dataset/utils/mvbench.py and utils/matching_util.py, without a
                         judge: the first word and the letter in brackets, one within the other.

Two differences: where lmms-eval picks a random option (EgoSchema), none is taken here; and a text
without any letter or digit, which VLMEvalKit's MVBench counts as right, is wrong here.
"""

import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

from smolvideo.evals.datasets.schemas.cinepile import cinepile_parts
from smolvideo.evals.item import LETTERS


class Ruled(NamedTuple):
    """Result of a rule: the option or None, and whether the answer counts as right."""

    choice: int | None
    correct: bool


Rule = Callable[[str, Sequence[str], int], Ruled]


def _by_letter(letter: str, options: Sequence[str], answer_index: int) -> Ruled:
    place = LETTERS.find(letter) if letter else -1
    return Ruled(
        place if 0 <= place < len(options) else None, letter == LETTERS[answer_index] and place >= 0
    )


def _cinepile(text: str, options: Sequence[str], answer_index: int) -> Ruled:
    letter, rest = cinepile_parts(text)
    right = options[answer_index].lower()
    if letter is None:
        same = [place for place, option in enumerate(options) if option.lower() == rest.lower()]
        return Ruled(same[0] if len(same) == 1 else None, rest.lower() == right)
    correct = letter == LETTERS[answer_index] and (not rest or rest.lower() == right)
    return Ruled(_by_letter(letter, options, answer_index).choice, correct)


_LMMS_PHRASES = (
    *(
        f"{lead}{noun} is"
        for noun, lead in product(
            ("answer", "option", "choice"), ("", "the ", "correct ", "the correct ")
        )
        if noun != "option" or "correct" in lead
    ),
    *(f"{lead}best {noun} is" for noun in ("answer", "option") for lead in ("", "the ")),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
_IN_BRACKETS, _BEFORE_STOP, _BEFORE_COLON, _BEFORE_BRACKET, _BEFORE_BLANK = 6, 5, 4, 3, 2
_FRONT, _BACK, _AFTER_PHRASE, _ANYWHERE = 10, 9, 7, 0
"""Kinds of position of a letter: the highest one found wins."""


def _lmms_video_mme(text: str, options: Sequence[str], answer_index: int) -> Ruled:
    return _by_letter(_best_place(text, "ABCD"), options, answer_index)


def _best_place(text: str, letters: str) -> str:
    if not text.strip():
        return ""
    bare = text.strip()
    for mark in ",.!?;:'\"":
        bare = bare.strip(mark)
    found = _places(bare, letters)
    if not found:
        found = [(_ANYWHERE, at, one) for one in letters if (at := f" {bare} ".rfind(one)) >= 0]
    # Among equals the first one found, as in the original.
    return max(found, key=lambda place: place[:2])[2] if found else ""


def _places(bare: str, letters: str) -> list[tuple[int, int, str]]:
    padded = f" {bare} "
    found = [
        (kind, at, one)
        for kind, (before, behind) in (
            (_IN_BRACKETS, "()"),
            (_BEFORE_STOP, ("", ".")),
            (_BEFORE_COLON, ("", ":")),
            (_BEFORE_BRACKET, ("", ")")),
            (_BEFORE_BLANK, ("", " ")),
        )
        for one in letters
        if (at := padded.rfind(f"{before}{one}{behind}")) >= 0
    ]
    lowered = padded.lower()
    for phrase in _LMMS_PHRASES:
        if (at := lowered.find(phrase)) >= 0:
            behind = at + len(phrase)
            found += [
                (_AFTER_PHRASE, at, one) for one in letters if (at := padded.find(one, behind)) >= 0
            ]
    bare = bare.strip()
    if bare[:1] in letters and bare and not bare[1:2].isalpha():
        found.append((_FRONT, 0, bare[0]))
    if bare[-1:] in letters and bare and not bare[-2:-1].isalpha():
        found.append((_BACK, len(padded) - 1, bare[-1]))
    return found


def _lmms_mvbench(text: str, options: Sequence[str], answer_index: int) -> Ruled:
    read = _first_letter_word(text)
    return Ruled(
        _by_letter(read.upper() if len(read) == 1 else "", options, answer_index).choice,
        read == _first_letter_word(LETTERS[answer_index]),
    )


_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'


def _first_letter_word(text: str) -> str:
    labelled = re.match(r"([A-E])\.\s*.+$", text.strip(), re.IGNORECASE)
    if labelled:
        return labelled[1].upper()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    thousands = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_blank or thousands else " ")
    cleaned = re.sub(r"\.(?!\d)", "", cleaned, count=32)  # the original passes a flag as count
    cleaned = cleaned.strip("'").strip('"').strip(")").strip("(").strip().lower()
    word = re.search(r"\b[A-E]\b", cleaned, re.IGNORECASE)
    return word[0].upper() if word else cleaned


def _lmms_egoschema(text: str, options: Sequence[str], answer_index: int) -> Ruled:
    return _by_letter(_first_of_the_last(text, options), options, answer_index)


def _first_of_the_last(text: str, options: Sequence[str]) -> str:
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    letters = LETTERS[: len(options)]
    forms = [
        f"{before}{one}{behind}"
        for before, behind in ("()", ("", " "), ("", "."))
        for one in letters
    ]
    found = [(text.rfind(form), form.strip("(). ")) for form in forms if form in text]
    if not found and len(text.split()) > 5:
        lowered = text.lower()
        # The original's options include the letters: `A. a dog`.
        labelled = [
            (one, f"{one}. {option}".strip().lower())
            for one, option in zip(letters, options, strict=True)
        ]
        found = [(lowered.rfind(option), one) for one, option in labelled if option in lowered]
    return min(found, key=lambda place: place[0])[1] if found else ""


_SET_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # the original lacks a comma here and in the next
    "Best answer:Best option:",
    "Answer:",
    "Option:",
)


def _vlmevalkit_video_mme(text: str, options: Sequence[str], answer_index: int) -> Ruled:
    text = text.strip()
    for phrase in _SET_PHRASES:
        text = text.replace(phrase, "")
    found = re.search("[ABCD]", text)
    return _by_letter(found[0] if found else "", options, answer_index)


def _vlmevalkit_mvbench(text: str, options: Sequence[str], answer_index: int) -> Ruled:
    if not any(one.isalnum() for one in text):
        return Ruled(None, False)
    word = text.lower().strip().split(" ")[0]
    labels = [f"({letter.lower()})" for letter in LETTERS[: len(options)]]
    met = [place for place, label in enumerate(labels) if _within(word, label)]
    inferred = _inferred(text, options)
    choice = met[0] if len(met) == 1 else inferred if not met else None
    return Ruled(choice, answer_index in met or inferred == answer_index)


def _within(word: str, label: str) -> bool:
    return word.replace(".", "") in label or label in word


_NOT_SAID = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


def _inferred(text: str, options: Sequence[str]) -> int | None:
    """The option that VLMEvalKit infers without a judge."""
    letters = LETTERS[: len(options)]
    if any(words in text for words in _NOT_SAID):
        return None
    words = text.translate(dict.fromkeys(map(ord, ".()[],:;!*#{}"), " ")).split()
    met = [place for place, letter in enumerate(letters) if letter in words]
    if len(met) == 1 and words.index(letters[met[0]]) > len(words) - 5:
        return met[0]
    if not met and "Z" in words:
        return None
    said = re.search(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", text, re.IGNORECASE)
    if said and said[1].upper() in letters:
        return letters.index(said[1].upper())
    lowered = text.lower()
    if len(lowered) > 2 * sum(map(len, options)):
        return None
    named = [place for place, option in enumerate(options) if option.lower() in lowered]
    return named[0] if len(named) == 1 else None


RULES: dict[str, tuple[Rule, int]] = {
    "cinepile": (_cinepile, 5),
    "lmms-eval:videomme": (_lmms_video_mme, 4),
    "lmms-eval:mvbench": (_lmms_mvbench, len(LETTERS)),
    "lmms-eval:egoschema": (_lmms_egoschema, 5),
    "vlmevalkit:videomme": (_vlmevalkit_video_mme, 4),
    "vlmevalkit:mvbench": (_vlmevalkit_mvbench, len(LETTERS)),
}
"""By name: the rule, and the number of letters it recognises."""
