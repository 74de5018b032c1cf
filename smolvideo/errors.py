"""Error classes with exit codes, for errors that are shown to the user.

    SmolVideoError            1   something unexpected
    ├─ UsageError             2   options that cannot be honoured, alone or together
    ├─ SourceError            3   missing, private, too large, not downloadable, not a video
    ├─ ReaderError            3   no reader, undecodable, no video stream, window outside the video
    ├─ PromptError            4   frames or text do not fit the context; a question without text
    ├─ ModelError             4   unknown model, missing or broken weights, device, memory
    └─ RecordError            5   records or outputs that cannot be read or written

The message of an error is one line (``str(error)``, no full stop, paths and commands in backticks)
with, if the user can do something about it, a ``hint``. Exceptions of other libraries are wrapped
once, in the module that calls the library, with ``raise … from``. Only ``cli/main.py`` displays
errors. Credentials in URLs are redacted from every message.
"""

import re
from typing import ClassVar

from smolvideo.credentials import redact

_ERROR_NUMBER = re.compile(r"\[(?:Errno|WinError) -?\d{1,9}\] ?")


def plain_reason(error: BaseException | str) -> str:
    """Return the first line of an error's message, without error numbers of the system.

    >>> plain_reason(OSError(28, "No space left on device", "/a"))
    "No space left on device: '/a'"
    """
    lines = _ERROR_NUMBER.sub("", str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class SmolVideoError(Exception):
    """Base class: an error whose message is for the user."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        # Messages quote other libraries (whose error numbers are noise) and what the user typed
        # (which may contain credentials), and are stored in records, pages and conversations.
        super().__init__(redact(_ERROR_NUMBER.sub("", message)))
        self.hint = None if hint is None else redact(hint)


class UsageError(SmolVideoError):
    """An invalid option or combination of options."""

    exit_code = 2


class SourceError(SmolVideoError):
    """A source that cannot be resolved to a local file."""

    exit_code = 3


class ReaderError(SmolVideoError):
    """A local file from which the requested frames cannot be read."""

    exit_code = 3


class PromptError(SmolVideoError):
    """Frames and text that cannot be packed into a prompt for this checkpoint."""

    exit_code = 4


class ModelError(SmolVideoError):
    """A checkpoint that cannot be found, loaded or run."""

    exit_code = 4


class RecordError(SmolVideoError):
    """Records or output files that cannot be read or written."""

    exit_code = 5


EXIT_SOME_FAILED = 6
"""Exit code: some items of a batch failed; the others succeeded."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report it."""
