"""Regular expressions on untrusted text run in linear time."""

import time
from collections.abc import Callable

import pytest

from smolvideo.conversation.timestamps import find_timestamps
from smolvideo.credentials import redact
from smolvideo.evals.datasets.option_notation import strip_option_letters
from smolvideo.sampling import parse_time
from smolvideo.sanitize import display_name, escape_controls
from smolvideo.source.ytdlp import to_source_error
from smolvideo.tui.transcript_view import with_links

PIECES = [
    *"aA1 \t\n.:-`[(<{&*\x1b", "a ", "1.", "1:", "1:11 ", "A. ", "[a](", "\x1b[0", "(caused by ",
    "https://a", "http://a ", "token=a&", "a@",
]  # fmt: skip


def as_time(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


@pytest.mark.parametrize(
    "searched",
    [
        lambda text: with_links(text, 1e5),
        lambda text: find_timestamps(text, 1e5),
        display_name,
        escape_controls,
        lambda text: to_source_error("https://example.org/v", text, timeout_seconds=5),
        lambda text: strip_option_letters([f"A. {text}x", f"B{text}x"]),
        redact,
        as_time,
    ],
    ids=["links", "moments", "names", "escapes", "refusals", "options", "credentials", "times"],
)
def test_search_time_is_linear(searched: Callable[[str], object]) -> None:
    """A quadratic expression takes several times the CPU seconds of this bound, a linear one a
    tenth.
    """
    for piece in PIECES:
        begun = time.process_time()
        searched(piece * (40_000 // len(piece)))
        assert time.process_time() - begun < 1.0, repr(piece)
