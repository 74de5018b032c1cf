"""``smolvideo ask`` in a pseudo terminal: screen contents, and Ctrl-C in every stage."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import tinymodels
from support.clipmaker import evenly, numbered_image, write_clip
from support.webserver import Content, WebServer

if sys.platform == "win32":
    pytest.skip("no pseudo terminals", allow_module_level=True)

from support.terminals import Terminal

CTRL_C = b"\x03"
SIXEL = b"\x1b[6;20;10t\x1b[?62;4c"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", evenly(40, 10)).path


def asked(model: Path, video: Path | str, *more: str) -> list[str | Path]:
    options = ["--model", model, "--device", "cpu", "--max-new-tokens", "8", *more]
    return ["ask", video, "What happens?", *options]


# ------------------------------------------------------------------ screen contents


@pytest.mark.parametrize(("columns", "rows", "shown"), [(80, 24, 10), (40, 20, 6)])
def test_screen_keeps_filmstrip_answer_and_footer(
    tiny: Path, video: Path, columns: int, rows: int, shown: int
) -> None:
    changes = {"COLORTERM": "truecolor"}
    with Terminal(asked(tiny, video), columns=columns, rows=rows, **changes) as terminal:
        assert terminal.finish() == 0, terminal.text
        assert "clip.mp4 · 0:04 · 128×96 · 40 frames" in terminal.text.replace("\n", " ")  # noqa: RUF001
        assert "▀" in terminal.text
        assert f"… {shown} of 40 frames" in terminal.text
        assert "decoding frames" in terminal.text  # progress was shown
        assert terminal.raw.count(b"\x1b[2K") > 0  # and erased
        stays = terminal.raw.rsplit(b"\x1b[?25h", 1)[1].decode()  # output after the progress lines
        answer, rest = stays.lstrip("\r\n").split("\n", 1)
        assert answer.strip()
        notes, _, footer = rest.partition("\x1b[2m")
        assert "`--max-new-tokens` allows more" in notes  # random weights never end an answer
        assert footer.count("\n") == 1
        assert footer.startswith("40 frames · ")
        assert "of 2048 tokens" in footer
        assert ("peak" in footer) is (columns >= 80)
        assert terminal.is_as_it_was


def test_sixel_in_a_terminal_that_supports_it(tiny: Path, video: Path) -> None:
    with Terminal(asked(tiny, video, "--max-frames", "2"), answers=SIXEL) as terminal:
        assert terminal.finish() == 0
        assert terminal.raw.count(b"\x1bP") == 2
        assert "▀" not in terminal.text


def test_no_color_draws_no_frames(tiny: Path, video: Path) -> None:
    words = asked(tiny, video, "--max-frames", "4")
    with Terminal(words, NO_COLOR="1") as terminal:
        assert terminal.finish() == 0
        assert "0:00  0:01  0:02  0:03" in terminal.text
        assert "▀" not in terminal.text
        assert b"\x1b[3" not in terminal.raw.replace(b"\x1b[39m", b"")
        assert b"[38;" not in terminal.raw


def test_quiet_prints_only_the_answer(tiny: Path, video: Path) -> None:
    with Terminal(asked(tiny, video, "--quiet")) as terminal:
        assert terminal.finish() == 0
        assert len(terminal.text.splitlines()) == 1
        assert b"\x1b" not in terminal.raw


def test_piped_answer_is_clean_with_progress_on_stderr(tiny: Path, video: Path) -> None:
    reader, writer = os.pipe()
    with Terminal(asked(tiny, video, "--json"), stdout=writer) as terminal:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            record = json.loads(pipe.read())
        assert terminal.finish() == 0
        assert record["model"] == "tiny"
        assert "decoding frames" in terminal.text
        assert "▀" not in terminal.text
        assert "tokens/s" not in terminal.text


# ------------------------------------------------------------------ Ctrl-C


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network that takes seconds per stage: long prompts of large images."""
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("slow") / "slow")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"] |= {"image_size": 256, "num_hidden_layers": 4}
    config["text_config"]["max_position_embeddings"] = 16_384
    return tinymodels.save_random_weights(folder, config)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [numbered_image(number, 640, 480) for number in range(120)]
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    return write_clip(path, evenly(120, 24), images=images).path


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage",
    [
        "decoding frames",
        "loading the model",
        "looking at frames",
        "reading the prompt",
        "answering",
    ],
)
def test_ctrl_c_in_each_stage(slow_model: Path, long_video: Path, stage: str) -> None:
    # --json prints no answer while it is generated, so that the stage is visible.
    words = asked(slow_model, long_video, "--json", "--max-new-tokens", "3000")
    with Terminal([*words, "--repetition-penalty", "1.3"]) as terminal:
        terminal.wait_for(stage)
        assert_stops_quietly(terminal)
        assert '"record"' not in terminal.text


@pytest.mark.slow
def test_ctrl_c_while_the_answer_streams(slow_model: Path, long_video: Path) -> None:
    words = asked(slow_model, long_video, "--max-frames", "2", "--max-new-tokens", "12000")
    reader, writer = os.pipe()
    with Terminal(words, stdout=writer) as terminal:
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            begun = pipe.read(1)
            assert begun
            assert_stops_quietly(terminal)
            assert pipe.readall().endswith(b"\n")  # the partial answer ends its line


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with WebServer() as running:
        yield running


def test_ctrl_c_while_downloading(server: WebServer, tiny: Path, video: Path) -> None:
    stalled = Content(video.read_bytes() * 50, "video/mp4", stall_after=100_000)
    url = server.serve("/clip.mp4", stalled)
    with Terminal(asked(tiny, url)) as terminal:
        terminal.wait_for("downloading")
        assert_stops_quietly(terminal)


def assert_stops_quietly(terminal: Terminal) -> None:
    terminal.type(CTRL_C)
    assert terminal.finish() == 130, terminal.text
    assert "Traceback" not in terminal.text
    assert "Error" not in terminal.text
    assert terminal.is_as_it_was
