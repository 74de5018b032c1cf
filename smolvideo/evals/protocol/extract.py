"""Named extractors: which option a text means, or none. Nothing is ever guessed.

``lenient``   ours: a letter in any of the usual dresses, or the text of exactly one option
              (lenient.py).
``official``  the rule of the tool that publishes scores of the benchmark at hand; each rule has
              a name of its own as well (official_rules.py).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from smolvideo.errors import UsageError
from smolvideo.evals.protocol import answer_phrases
from smolvideo.evals.protocol.lenient import How, lenient_choice
from smolvideo.evals.protocol.official_rules import OFFICIAL, RULES

ExtractorName = Literal[
    "lenient",
    "official",
    "cinepile",
    "lmms-eval:videomme",
    "lmms-eval:mvbench",
    "lmms-eval:egoschema",
    "vlmevalkit:videomme",
    "vlmevalkit:mvbench",
]
EXTRACTORS: tuple[ExtractorName, ...] = get_args(ExtractorName)


class ExtractedChoice(NamedTuple):
    """``choice`` is the place of the option that the text means, None where it means none.

    ``correct`` is not always ``choice == answer_index``: official rules also compare the text
    behind the letter, or take more than one letter for right.
    """

    choice: int | None
    correct: bool
    method: How


def extractor_for(extractor: ExtractorName, benchmark: str) -> ExtractorName:
    """The extractor by its own name: what ``official`` stands for on ``benchmark``.

    Raises UsageError where no tool publishes scores of it.
    """
    if extractor != "official":
        return extractor
    if benchmark not in OFFICIAL:
        raise UsageError(
            f"`{benchmark}` has no official extractor",
            hint="`--extractor lenient`, or a rule by its name: " + ", ".join(RULES),
        )
    return OFFICIAL[benchmark]  # type: ignore[return-value]


def letters_known(extractor: ExtractorName) -> int | None:
    """How many letters an extractor knows, by its own name; None for any number."""
    return RULES[extractor][1] if extractor in RULES else None


def extract(
    extractor: ExtractorName, text: str, options: Sequence[str], answer_index: int
) -> ExtractedChoice:
    """Read an answer. ``options`` and ``answer_index`` are in the order that was shown.

    ``official`` alone is CinePile's rule; ``extractor_for`` names that of another benchmark.
    """
    if extractor == "lenient":
        choice, how = lenient_choice(text, options)
        return ExtractedChoice(choice, choice == answer_index, how)
    rule, _ = RULES["cinepile" if extractor == "official" else extractor]
    choice, correct = rule(text, options, answer_index)
    return ExtractedChoice(choice, correct, _how(text, choice, options))


def _how(text: str, choice: int | None, options: Sequence[str]) -> How:
    if choice is not None:
        same = text.replace("*", "").strip().lower() == options[choice].lower()
        return "text" if same else "letter"
    if not text.strip():
        return "empty"
    return "refusal" if answer_phrases.REFUSES.search(text) else "unparsable"
