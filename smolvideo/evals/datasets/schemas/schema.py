"""Base class of a benchmark's schema: published files → items, prompts, and lmms-eval's samples."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from smolvideo.evals.datasets.option_notation import strip_option_letters
from smolvideo.evals.datasets.table_files import HubFilePattern, InvalidRowError, Row, read_rows
from smolvideo.evals.item import LETTERS, EvalItem

DIRECT_LETTER = "Answer with the option's letter from the given choices directly."

_LETTERED_LINE = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[.):])\s*\S")


class QuestionText(NamedTuple):
    """Text of a question: ``instruction`` goes before the frames, ``text`` after them.

    An ``instruction`` of None uses the default of the model's layout; an empty one is no text.
    """

    instruction: str | None
    text: str


FormatQuestion = Callable[[str, Sequence[str], str | None], QuestionText | str]
"""Question, options in display order, subtitles → text; a str stands after the frames alone."""


class RowPlace(NamedTuple):
    """Where a row was read: ``number`` from 0 in the file with the stem ``stem``."""

    number: int
    stem: str = ""
    is_only_file: bool = True

    @property
    def id(self) -> str:
        """The number, after the stem if there are several files."""
        return f"{self.number}" if self.is_only_file else f"{self.stem}/{self.number}"


class Schema:
    """How one benchmark is published, asked, and exported.

    ``title`` is its line in the list of commands, ``help`` the text of its command. ``hub`` maps
    versions to their files on the hub, the default first; empty without any. ``file_pattern``
    matches the names of the benchmark's files in a folder, or else files with the first of
    ``suffixes`` that occurs are its files. ``prompts`` has the texts of its questions by the name
    of a prompt, ``official_extractor`` the rule of the tool that publishes scores.
    ``mean_over`` is a field whose groups have the same weight in a mean that its authors report.
    ``has_cut_videos``: files with the part that is asked about have the name of the whole video.
    ``lmms_eval_task`` are the names of its task and metric in lmms-eval.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    help: ClassVar[str]
    prompts: ClassVar[Mapping[str, FormatQuestion]]
    lmms_eval_task: ClassVar[tuple[str, str]]
    hub: ClassVar[Mapping[str, HubFilePattern]] = {}
    file_pattern: ClassVar[str | None] = None
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".jsonl", ".json", ".csv")
    official_extractor: ClassVar[str | None] = None
    mean_over: ClassVar[str | None] = None
    has_cut_videos: ClassVar[bool] = False

    def rows(self, file: Path) -> Sequence[Row]:
        """Read the rows of a file, one per question. Raises SourceError."""
        return read_rows(file)

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        """Convert a row, which may have no public answer. Raises InvalidRowError."""
        raise NotImplementedError

    def lmms_eval_subtask(self, item: EvalItem | None, *, subtitle_files: bool) -> str:
        """Return lmms-eval's name of the task with ``item``; None for a run without items.

        ``subtitle_files``: the run used subtitles of files next to the videos.
        """
        return self.lmms_eval_task[0]

    def lmms_eval_target(self, item: EvalItem) -> str:
        """Return the right answer as lmms-eval's samples have it."""
        return item.answer_letter

    def lmms_eval_metric(self, item: EvalItem, text: str, choice: int | None, correct: bool) -> Any:
        """Return an answer in the format of the task's ``process_results``.

        ``choice`` is the right option exactly if the answer is ``correct``; None without any.
        """
        return float(correct)

    def submission(self, choices: Mapping[str, int]) -> str | None:
        """Return the content of the file for the server that knows the right answers.

        ``choices`` are indices of options by item id. None if there is no such server.
        """
        return None


WATCH_CAREFULLY = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, "
    "select the best option that accurately addresses the question."
)
"""Opening of WorldSense's and MLVU's questions in VLMEvalKit."""


def vlmevalkit_frames(question: str, options: Sequence[str], subtitles: str | None) -> str:
    """VLMEvalKit's texts after the frames of Video-MME and WorldSense."""
    given = f"This video's subtitles are listed below:\n{subtitles}\n" if subtitles else ""
    return (
        f"\nThese are the frames of a video. {given}Select the best answer to the following "
        "multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) "
        f"of the correct option.\n\nQuestion: {question}\n{dotted(options)}\nAnswer: "
    )


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
