"""``ask`` on odd real clips: an answer or one clear error, never a traceback, hang or crash."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from click.testing import CliRunner
from support.project import SHARED

from smolvideo.cli.main import cli

NAMES = sorted(
    path.name
    for path in (SHARED / "clips").glob("*")
    if path.name not in ("MANIFEST.tsv", "README.md")
)
UNREADABLE = {
    "audio_only.mp4",
    "d_text.mp4",
    "d_trunc60_nomoov.mp4",
    "d_zero_bytes.mp4",
    "vp9_invalid.webm",
}
"""Clips without a frame that any decoder could show."""

LONGEST_SECONDS = 120


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Fail after a long limit; on a busy machine the slowest clip takes some seconds."""

    def too_long(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"no answer within {LONGEST_SECONDS} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.clips
def test_clips_exist(clips: Path) -> None:
    assert len(NAMES) >= 86


@pytest.mark.clips
@pytest.mark.parametrize("name", NAMES)
def test_ask_ends_in_an_answer_or_an_error(clips: Path, name: str) -> None:
    # Six frames, from the first to the last: which ones they are is tested in tests/readers.
    words = ["ask", str(clips / name), "What is in this video?", "--model", "nano"]
    words += ["--device", "cpu", "--max-new-tokens", "8", "--max-frames", "6"]
    done = CliRunner().invoke(cli, words)
    assert "Traceback" not in done.stderr
    if name in UNREADABLE:
        assert done.exit_code == 3, done.stderr
        assert done.stdout == ""
        (first, *rest) = done.stderr.splitlines()
        assert first.startswith("Error: ")
        assert name in first
        assert all(line.startswith("hint: ") for line in rest)
    else:
        assert done.exit_code == 0, done.stderr
        assert done.stdout.strip()
        assert "Error" not in done.stderr
