"""Feature queries to a pseudo terminal, and progress display that is erased."""

import sys
from pathlib import Path

import pytest

from smolvideo.show.console import REPLY_TIMEOUT_SECONDS, TerminalCapabilities, parse_reply

if sys.platform == "win32":
    pytest.skip("no pseudo terminals", allow_module_level=True)

from support.terminals import Terminal

KITTY = b"\x1b_Gi=31;OK\x1b\\\x1b[6;18;9t\x1b[?62;c"
XTERM_SIXEL = b"\x1b[6;20;10t\x1b[?64;1;2;4;6c"

ASK = """
import sys
from smolvideo.show import console
waits, select = [], console.select.select
def watched(*given):
    waits.append(given[3])
    return select(*given)
console.select.select = watched
print(console.query_capabilities(), file=sys.stderr)
print("may wait", len(waits), max(waits, default=0), file=sys.stderr)
"""

STAGES = """
import sys, time
from pathlib import Path
from smolvideo.progress import Progress
from smolvideo.show.console import open_screen
from smolvideo.show.progress_bar import StageProgress
def wait_for(step):
    while not Path(sys.argv[1], step).exists():
        time.sleep(0.01)
screen = open_screen(quiet="quiet" in sys.argv)
with StageProgress(screen) as stages:
    stages.on_progress(Progress("load"))
    for frame in range(1, 26):
        stages.on_progress(Progress("decode", frame, 50))
        time.sleep(0.02)
    wait_for("decoded")
    with stages.paused():
        stages.on_progress(Progress("decode", 33, 50))
        assert stages._bars is None, "nothing that could draw"
        screen.err.print("a notice")
    stages.on_progress(Progress("encode", 4, 50))
    wait_for("encoded")
    stages.on_progress(Progress("generate", 3, 256))
    wait_for("answered")
screen.write("the answer\\n")
"""


@pytest.mark.parametrize(
    ("answer", "abilities"),
    [
        (b"", TerminalCapabilities()),
        (KITTY, TerminalCapabilities(kitty=True, cell_width=9, cell_height=18)),
        (XTERM_SIXEL, TerminalCapabilities(sixel=True)),
        (b"\x1b[?1;2c", TerminalCapabilities()),
        (b"\x1b[?14;24;44c", TerminalCapabilities()),  # attribute 4 is missing
        (b"\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?62c", TerminalCapabilities()),
        (b"typed ahead\x1b[?4c", TerminalCapabilities(sixel=True)),
        (b"\x1b[6;0;0t\x1b[?62c", TerminalCapabilities()),
    ],
)
def test_device_attribute_replies_are_parsed(
    answer: bytes, abilities: TerminalCapabilities
) -> None:
    assert parse_reply(answer) == abilities


def test_cell_size_falls_back_to_the_driver() -> None:
    assert parse_reply(b"", cell_size=(7, 14)).cell_height == 14
    assert parse_reply(KITTY, cell_size=(7, 14)).cell_height == 18


@pytest.mark.parametrize(
    ("answers", "said"),
    [(KITTY, "kitty=True, sixel=False"), (XTERM_SIXEL, "kitty=False, sixel=True")],
)
def test_terminal_features_are_queried(answers: bytes, said: str) -> None:
    with Terminal([], python=["-c", ASK], answers=answers) as terminal:
        assert terminal.finish() == 0
        assert said in terminal.text
        assert terminal.is_as_it_was


def test_silent_terminal_times_out() -> None:
    with Terminal([], python=["-c", ASK], answers=b"") as terminal:
        assert terminal.finish() == 0
        assert "kitty=False, sixel=False" in terminal.text
        times, seconds = terminal.text.rsplit("may wait", 1)[1].split()
        assert int(times) == 1
        assert 0 < float(seconds) <= REPLY_TIMEOUT_SECONDS < 1
        assert terminal.is_as_it_was


@pytest.mark.parametrize("term", ["dumb", "linux", ""])
def test_dumb_terminals_are_not_queried(term: str) -> None:
    with Terminal([], python=["-c", ASK], TERM=term) as terminal:
        assert terminal.finish() == 0
        assert b"\x1b[c" not in terminal.raw


@pytest.mark.parametrize("columns", [120, 40])
def test_stage_progress_is_shown_and_erased(columns: int, tmp_path: Path) -> None:
    with Terminal([tmp_path], python=["-c", STAGES], columns=columns) as terminal:
        terminal.wait_for("decoding frames")
        terminal.wait_for("loading the model")
        terminal.wait_for("25/50 frames")
        terminal.wait_for(" left")
        (tmp_path / "decoded").touch()
        terminal.wait_for("looking at frames")
        (tmp_path / "encoded").touch()
        terminal.wait_for("answering")
        (tmp_path / "answered").touch()
        assert terminal.finish() == 0
        screen = what_stays(terminal.raw, columns)
        assert screen == ["a notice", "the answer"]
        assert "33/50" not in terminal.text  # paused while something else is drawn
        assert terminal.is_as_it_was


def test_dumb_and_quiet_terminals_get_no_progress(tmp_path: Path) -> None:
    for step in ("decoded", "encoded", "answered"):
        (tmp_path / step).touch()
    with Terminal([tmp_path], python=["-c", STAGES], TERM="dumb") as terminal:
        assert terminal.finish() == 0
        assert terminal.text.split("\n") == ["a notice", "the answer", ""]
    with Terminal([tmp_path, "quiet"], python=["-c", STAGES]) as terminal:
        assert terminal.finish() == 0
        assert "decoding" not in terminal.text


def what_stays(raw: bytes, columns: int) -> list[str]:
    """Return the lines left on a screen, given the control sequences of rich's progress display."""
    import re

    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-?]*[ -/]*[@-~]|\r|\n|[^\x1b\r\n]", raw.decode()):
        if token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.endswith("A") and token[0] == "\x1b":
            row -= int(token[2:-1] or 1)
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token[0] != "\x1b":
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + 1 :]
            column += 1
            assert column <= columns
    return [line.rstrip() for line in lines if line.strip()]


def test_what_stays_applies_control_sequences() -> None:
    assert what_stays(b"one\r\ntwo\r\n\x1b[1A\x1b[2Kthree", 80) == ["one", "three"]
