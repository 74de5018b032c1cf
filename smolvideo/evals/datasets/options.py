"""Options and answers in the shapes in which benchmarks write them."""

import re
from collections.abc import Sequence

from smolvideo.evals.datasets.table_files import InvalidRowError, as_index
from smolvideo.evals.item import LETTERS


def strip_option_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The texts of options that carry their letters already (``A. …``, ``B) …``, ``(C) …``).

    Only where every option begins with its own letter: ``A. Lincoln`` among names stays whole.

    >>> without_letters(["A. red", "B. blue"]), without_letters(["A. Lincoln", "G. Ford"])
    (('red', 'blue'), ('A. Lincoln', 'G. Ford'))
    """
    bare = []
    for letter, option in zip(LETTERS, options, strict=False):
        found = re.match(rf"\s*(?:{letter}\s*[.):]|\({letter}\))\s*(?=\S)", option)
        if found is None:
            return validate_options(options)
        bare.append(option[found.end() :])
    return validate_options(bare)


def validate_options(options: Sequence[str]) -> tuple[str, ...]:
    """The options, stripped. Raises RowProblem for an empty one or more than there are letters."""
    stripped = tuple(option.strip() for option in options)
    if not all(stripped) or not 2 <= len(stripped) <= len(LETTERS):
        raise InvalidRowError(f"needs 2 to {len(LETTERS)} options, none of them empty")
    return stripped


def require_distinct(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options. Raises RowProblem where two are the same, of which only one can be right.

    Published benchmarks have such questions, and count them.
    """
    for place, option in enumerate(options):
        if (first := options.index(option)) < place:
            raise InvalidRowError(f"options {first + 1} and {place + 1} are the same")
    return options


def index_of_text(answer: str, options: Sequence[str]) -> int:
    """Which option ``answer`` is: the first that equals it, as lmms-eval counts options that are
    there twice; else the one that does without regard to case and outer blanks.

    Raises RowProblem where none does, or several.
    """
    if answer.strip() in options:
        return options.index(answer.strip())
    wanted = answer.strip().casefold()
    places = [place for place, option in enumerate(options) if option.casefold() == wanted]
    if len(places) != 1:
        raise InvalidRowError(f"the right answer is {len(places)} of the options, not one")
    return places[0]


def index_of_letter(answer: object, options: Sequence[str]) -> int:
    """The place of the option that a letter stands for: ``C``, ``C.`` or ``(C)``.

    Raises RowProblem where there is no such option.
    """
    letter = str(answer or "").strip().strip("().:")
    index = LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(options):
        raise InvalidRowError(
            f"the right answer is not the letter of one of {len(options)} options"
        )
    return index


def index_in_range(answer: object, options: Sequence[str]) -> int:
    """The place itself, counted from 0, as a number or written as one.

    Raises RowProblem where there is no such option.
    """
    index = as_index(answer)
    if index is None or index >= len(options):
        raise InvalidRowError(f"the right answer is not the place of one of {len(options)} options")
    return index
