"""Named extractors, from the text of an answer to an option or to none; nothing is ever guessed."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from smolvideo.errors import UsageError
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.protocol.answer_phrases import REFUSES
from smolvideo.evals.protocol.lenient import How, lenient_choice
from smolvideo.evals.protocol.official_rules import RULES

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
    """``choice`` is the index of the option that the text means, None if it means none.

    ``correct`` is not always ``choice == answer_index``: official rules also compare the text
    after the letter, or accept more than one letter.
    """

    choice: int | None
    correct: bool
    method: How


def extractor_for(extractor: ExtractorName, benchmark: str) -> ExtractorName:
    """Resolve ``official`` to the name of the rule for ``benchmark``; other names stay.

    Raises UsageError if no tool publishes scores of the benchmark.
    """
    if extractor != "official":
        return extractor
    official = SCHEMAS[benchmark].official_extractor
    if official is None:
        raise UsageError(
            f"`{benchmark}` has no official extractor",
            hint="`--extractor lenient`, or a rule by its name: " + ", ".join(RULES),
        )
    return official  # type: ignore[return-value]


def letters_known(extractor: ExtractorName) -> int | None:
    """Number of letters that an extractor recognises, by its own name; None if unlimited."""
    return RULES[extractor][1] if extractor in RULES else None


def extract(
    extractor: ExtractorName, text: str, options: Sequence[str], answer_index: int | None
) -> ExtractedChoice:
    """Extract the choice from an answer. ``options`` and ``answer_index`` are in display order.

    Without a public answer (None) nothing is ``correct``. An unresolved ``official`` is CinePile's
    rule; use ``extractor_for`` for other benchmarks.
    """
    if extractor == "lenient":
        choice, how = lenient_choice(text, options)
        return ExtractedChoice(choice, choice is not None and choice == answer_index, how)
    rule, _ = RULES["cinepile" if extractor == "official" else extractor]
    # What a rule reads in a text does not depend on the right answer.
    choice, correct = rule(text, options, answer_index or 0)
    correct = correct and answer_index is not None
    return ExtractedChoice(choice, correct, _how(text, choice, options))


def _how(text: str, choice: int | None, options: Sequence[str]) -> How:
    if choice is not None:
        same = text.replace("*", "").strip().lower() == options[choice].lower()
        return "text" if same else "letter"
    if not text.strip():
        return "empty"
    return "refusal" if REFUSES.search(text) else "unparsable"
