"""What can go wrong, and the exit code that says so.

    SmolVideoError            1   something unexpected
    ├─ UsageError             2   options that cannot be honoured, alone or together
    ├─ SourceError            3   missing, private, too large, not downloadable, not a video
    ├─ ReaderError            3   no reader, undecodable, no video stream, window outside the video
    ├─ PromptError            4   frames or text do not fit the context; a question without text
    ├─ ModelError             4   unknown model, missing or broken weights, device, memory
    └─ RecordError            5   records or outputs that cannot be read or written

Every error is one line for a person (``str(error)``, no full stop, paths and commands in backticks)
and, where something can be done about it, a ``hint``. Exceptions of other libraries are wrapped
once, in the module that calls the library, with ``raise … from``. Only ``cli/main.py`` shows
errors. No error holds credentials of an address that it names.
"""

import re
from typing import ClassVar

from smolvideo.credentials import redact

_ERROR_NUMBER = re.compile(r"\[(?:Errno|WinError) -?\d{1,9}\] ?")


def plain_reason(error: BaseException | str) -> str:
    """The first line of what an error says, without the numbers of the operating system.

    >>> plain_reason(OSError(28, "No space left on device", "/a"))
    "No space left on device: '/a'"
    """
    lines = _ERROR_NUMBER.sub("", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class SmolVideoError(Exception):
    """An error whose text is meant for the person at the terminal."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # Messages quote those of other libraries, whose numbers mean nothing to a person. They name
        # what was typed, and go into records, pages and conversations.
        super().__init__(redact(_ERROR_NUMBER.sub("", message)))
        self.hint = None if hint is None else redact(hint)


class UsageError(SmolVideoError):
    """An option, or a combination of options, that cannot be honoured."""

    exit_code = 2


class SourceError(SmolVideoError):
    """What the user named cannot be turned into a local file."""

    exit_code = 3


class ReaderError(SmolVideoError):
    """A local file from which the asked frames cannot be read."""

    exit_code = 3


class PromptError(SmolVideoError):
    """Frames and text that cannot be packed for this checkpoint."""

    exit_code = 4


class ModelError(SmolVideoError):
    """A checkpoint that cannot be found, loaded or run."""

    exit_code = 4


class RecordError(SmolVideoError):
    """Records or output files that cannot be read or written."""

    exit_code = 5


EXIT_SOME_FAILED = 6
"""Some items of a batch failed; the others were answered."""

EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells report it."""
