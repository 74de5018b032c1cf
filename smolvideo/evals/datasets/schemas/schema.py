"""Base class of a benchmark's schema: published files → items, and lmms-eval's prompt for them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from smolvideo.evals.datasets.benchmarks import strip_option_letters
from smolvideo.evals.datasets.table_files import HubFilePattern, InvalidRowError, Row, read_rows
from smolvideo.evals.item import LETTERS, EvalItem

DIRECT_LETTER = "Answer with the option's letter from the given choices directly."

_LETTERED_LINE = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*\S")


class Schema:
    """How one benchmark is published.

    ``title`` is its line in the list of commands, ``help`` the text of its command. ``hub`` are
    its files on the hub, ``lmms_eval_task`` the names of its task and metric in lmms-eval.
    ``file_pattern`` matches the names of the benchmark's files in a folder; None for all tables.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    hub: ClassVar[HubFilePattern]
    lmms_eval_task: ClassVar[tuple[str, str]]
    file_pattern: ClassVar[str | None] = None

    def rows(self, file: Path) -> Sequence[Row]:
        """Read the rows of a file, one per question. Raises SourceError."""
        return read_rows(file)

    def item(self, row: Row, number: int, part: str) -> EvalItem | None:
        """Convert row ``number``, from 0, of the file with the stem ``part``.

        Returns None for a question without a public answer. Raises InvalidRowError.
        """
        raise NotImplementedError

    def lmms_eval_text(self, question: str, options: Sequence[str], subtitles: str | None) -> str:
        """Return lmms-eval's text of a question; ``options`` are in display order."""
        raise NotImplementedError


def split_question(text: str) -> tuple[str, tuple[str, ...]]:
    """Split a question whose last lines are its options, ``A. red`` or ``(A) red``.

    The options are the longest run of lines at the end with the letters from A on. Raises
    InvalidRowError without one.

    >>> split_question("Which?\\nA. red\\nB. blue")
    ('Which?', ('red', 'blue'))
    """
    lines = text.strip().splitlines()
    for at, line in enumerate(lines):
        letters = [_letter_of(other) for other in lines[at:]]
        if _letter_of(line) == "A" and letters == list(LETTERS[: len(letters)]) and at > 0:
            return "\n".join(lines[:at]).strip(), strip_option_letters(lines[at:])
    raise InvalidRowError("the question does not end with its options, one a line")


def _letter_of(line: str) -> str | None:
    found = _LETTERED_LINE.match(line)
    return (found[1] or found[2]) if found else None


def dotted(options: Sequence[str]) -> str:
    """``A. red`` and so on, one option a line."""
    return "\n".join(f"{letter}. {text}" for letter, text in lettered(options))


def bracketed(options: Sequence[str]) -> str:
    """``(A) red`` and so on, one option a line."""
    return "\n".join(f"({letter}) {text}" for letter, text in lettered(options))


def lettered(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the options with their letters."""
    return zip(LETTERS, options, strict=False)


def text_groups(row: Row, *names: str) -> dict[str, str]:
    """Return the columns ``names`` that have a value, as groups on one line."""
    values = {name: row.get(name) for name in names}
    return {
        name: " ".join(str(one).split()) for name, one in values.items() if one not in (None, "")
    }
