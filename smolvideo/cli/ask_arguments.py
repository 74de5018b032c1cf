"""Positional arguments of ``ask``, split into sources and question, and options next to them."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smolvideo.cli.flags import Flags, argument, flag
from smolvideo.cli.options import ListFlags
from smolvideo.cli.shell_completion import complete_files
from smolvideo.errors import PromptError, SourceError, UsageError
from smolvideo.file_names import existing_path
from smolvideo.sanitize import display_name
from smolvideo.source import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Named,
    is_url,
    public_name,
    read_source_list,
)
from smolvideo.text_input import decode_text

STDIN = "-"


class QuestionFlags(Flags, section="Question"):
    """Sources and question."""

    words: tuple[str, ...] = argument(
        nargs=-1, metavar="SOURCE... QUESTION", shell_complete=complete_files
    )
    question: str | None = flag(
        "-q",
        metavar="TEXT",
        show_default="the last word",
        help="The question; every positional argument is then a source.",
    )


class QuestionListFlags(ListFlags, section="Question"):
    """Sources from a file, next to the question in the help."""


class DryRunFlags(Flags, section="Question"):
    """Whether anything is answered."""

    dry_run: bool = flag(help="Predict seconds and memory only, as `smolvideo plan` does.")


@dataclass(frozen=True)
class AskArguments:
    """The sources as typed, and the question."""

    sources: tuple[Named, ...]
    question: str


def split_arguments(
    positional: Sequence[str],
    *,
    question: str | None,
    source_list: Path | None,
    allow_outside: bool = False,
    needs_source: bool = True,
    needs_question: bool = True,
) -> AskArguments:
    """Split ``positional``: the last one is the question, unless ``question`` is not None.

    A question of ``-`` is read from stdin. The sources of ``source_list`` come after the others.
    Without ``needs_source`` (a continued conversation) there may be none. Without
    ``needs_question`` the last word is one only if it cannot be a source; else it is empty.

    Raises:
        UsageError: no source, no question, or two uses of stdin.
        PromptError: a question without text.
        SourceError: the list cannot be read.
    """
    sources = list(positional)
    if question is None and not needs_question:
        question = _question_if_any(sources, may_be_alone=source_list is not None)
    elif question is None:
        question = _last_of(sources, needs_source=needs_source and source_list is None)
    if question == STDIN and source_list is not None and str(source_list) == STDIN:
        raise UsageError("the question and the list cannot both come from stdin")
    if needs_source and not sources and source_list is None:
        raise UsageError(
            "no video to ask about", hint='`smolvideo ask VIDEO "What happens?"` asks about one'
        )
    if question == STDIN:
        question = _from_stdin()
    if needs_question and not question.strip():
        raise PromptError("the question has no text", hint='ask something: "What happens?"')
    listed: list[Named] = []
    if source_list is not None:
        listed = read_source_list(source_list, allow_outside=allow_outside)
    return AskArguments((*sources, *listed), question.strip())


def _question_if_any(sources: list[str], *, may_be_alone: bool) -> str:
    """Remove and return the question, the last of ``sources``; empty if that is a source."""
    if not sources:
        return ""
    last = sources[-1]
    if len(sources) == 1 and not may_be_alone and not last.rstrip().endswith("?"):
        return ""
    if last != STDIN and (_is_surely_a_source(last) or not _is_no_path(last)):
        return ""
    return _last_of(sources, needs_source=not may_be_alone)


def _from_stdin() -> str:
    """Read the question from stdin. Raises PromptError if it is not text."""
    try:
        return decode_text(sys.stdin.buffer.read())
    except UnicodeDecodeError as error:
        raise PromptError(
            "the question on standard input is not text", hint="it is read as UTF-8"
        ) from error


def _last_of(sources: list[str], *, needs_source: bool) -> str:
    """Remove and return the question, the last of ``sources``. Raises UsageError, SourceError."""
    if not sources:
        raise UsageError("no question", hint='`smolvideo ask VIDEO "What happens?"` asks one')
    last = sources.pop()
    _check_quotes([*sources, last])
    if _is_surely_a_source(last):
        typed = shlex.join(map(public_name, [*sources, last]))
        raise UsageError(
            f"no question: `{public_name(last)}` is a source",
            hint=f'`smolvideo ask {typed} "What happens?"` asks one; `--question` takes any text',
        )
    if not sources and needs_source:
        raise UsageError(
            f"no video to ask `{last}` about",
            hint=f"name it first: `smolvideo ask VIDEO {shlex.quote(last)}`",
        )
    return last


def _check_quotes(words: list[str]) -> None:
    """Check that no words of the question are among the sources.

    Raises UsageError for a question before the sources, SourceError for an unquoted one.
    """
    is_source = [_is_surely_a_source(word) for word in words]
    first_source = is_source.index(True) if any(is_source) else len(words)
    before, after = words[:first_source], words[first_source:]
    if before and after and all(is_source[first_source:]) and all(map(_is_no_path, before)):
        right = _command(after, before)
        raise UsageError("the question stands before the sources", hint=f"it comes last: `{right}`")
    sources = words[: is_source.index(False)] if not all(is_source) else words
    asked = words[len(sources) :]
    alone = len(asked) > 1 and not any(" " in word.strip() for word in asked)
    if alone and _is_no_path(asked[0]) and not any(is_source[len(sources) :]):
        raise SourceError(
            f"no such file or folder: `{display_name(asked[0])}`",
            hint="put a question of several words in quotes: "
            f"`{_command(sources or ['VIDEO'], asked)}`",
        )


def _command(sources: Sequence[str], asked: Sequence[str]) -> str:
    """Format the corrected command for a hint, with the question in double quotes.

    If the question has characters that a shell expands, it is quoted by ``shlex``.
    """
    question = " ".join(asked)
    quoted = shlex.quote(question) if set(question) & set('"$`\\!') else f'"{question}"'
    return f"smolvideo ask {shlex.join(map(public_name, sources))} {quoted}"


def _is_no_path(word: str) -> bool:
    """Whether a word cannot be meant as a path: it has a space, or no dot, slash, * or ~."""
    if not word.strip() or word == STDIN:
        return False
    return " " in word.strip() or not any(mark in word.rstrip(".…") for mark in "./\\*~")


def _is_surely_a_source(text: str) -> bool:
    """Whether a word is a source: a URL, an existing file, or a name like ``missing.mp4``."""
    if text == STDIN or not text.strip():
        return False
    if is_url(text) and " " not in text.strip():
        return True
    try:
        if existing_path(Path(text)).exists():
            return True
    except (OSError, ValueError):  # too long for a path, as questions may be
        return False
    return " " not in text and Path(text).suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES
