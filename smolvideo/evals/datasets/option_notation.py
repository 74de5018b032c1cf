"""Options and right answers in the notations of the benchmarks: letters, texts, positions."""

import re
from collections.abc import Sequence

from smolvideo.evals.datasets.table_files import InvalidRowError, Row, as_index
from smolvideo.evals.item import LETTERS


def strip_option_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of options that include their letters (``A. …``, ``B) …``, ``(C) …``).

    Only if every option begins with its own letter: ``A. Lincoln`` among names stays whole.

    >>> strip_option_letters(["A. red", "B. blue"]), strip_option_letters(["A. Lincoln", "G. Ford"])
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
    """Strip the options. Raises InvalidRowError for an empty one, or for too few or too many."""
    stripped = tuple(option.strip() for option in options)
    if not all(stripped) or not 2 <= len(stripped) <= len(LETTERS):
        raise InvalidRowError(f"needs 2 to {len(LETTERS)} options, none of them empty")
    return stripped


def require_distinct(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options. Raises InvalidRowError for duplicates, of which only one can be right.

    Not used for published benchmarks, which contain such questions and count them.
    """
    for place, option in enumerate(options):
        if (first := options.index(option)) < place:
            raise InvalidRowError(f"options {first + 1} and {place + 1} are the same")
    return options


def index_of_text(answer: str, options: Sequence[str]) -> int:
    """Return the index of the option with the text ``answer``: the first exact match, as lmms-eval
    counts duplicate options; else the match ignoring case and surrounding whitespace.

    Raises InvalidRowError if there is no match, or more than one of the second kind.
    """
    if answer.strip() in options:
        return options.index(answer.strip())
    wanted = answer.strip().casefold()
    places = [place for place, option in enumerate(options) if option.casefold() == wanted]
    if len(places) != 1:
        raise InvalidRowError(f"the right answer is {len(places)} of the options, not one")
    return places[0]


def index_of_letter(answer: object, options: Sequence[str]) -> int:
    """Return the index of the option with a letter: ``C``, ``C.`` or ``(C)``.

    Raises InvalidRowError if there is no such option.
    """
    letter = str(answer or "").strip().strip("().:")
    index = LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(options):
        raise InvalidRowError(
            f"the right answer is not the letter of one of {len(options)} options"
        )
    return index


def public_index(row: Row, column: str, options: Sequence[str]) -> int | None:
    """Return the index in a column that is empty where the answer is not public."""
    value = row.get(column)
    return None if value is None or value == "" else index_in_range(value, options)


def index_in_range(answer: object, options: Sequence[str]) -> int:
    """Return the index itself, counted from 0, given as a number or as its text.

    Raises InvalidRowError if there is no such option.
    """
    index = as_index(answer)
    if index is None or index >= len(options):
        raise InvalidRowError(f"the right answer is not the place of one of {len(options)} options")
    return index
