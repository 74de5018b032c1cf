"""``smolvideo --help`` answers at once, because nothing heavy is imported for it."""

import subprocess
import sys
import time

import click
import pytest
from conftest import ROOT
from terminals import environment

from smolvideo.cli.main import cli

HEAVY = (
    "av",
    "cv2",
    "decord",
    "huggingface_hub",
    "num2words",
    "numpy",
    "PIL",
    "psutil",
    "rich",
    "safetensors",
    "textual",
    "tokenizers",
    "torch",
    "transformers",
    "yt_dlp",
)
LIMIT_SECONDS = 0.25
SAMPLE = ROOT / "samples" / "triangle_down.mp4"

_LIST_MODULES = """
import sys
sys.argv = ["smolvideo", *sys.argv[1:]]
from smolvideo.cli.main import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""


def modules_after(*words: str) -> set[str]:
    """The modules that are loaded once ``smolvideo WORDS`` has run."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST_MODULES, *words],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_nothing_heavy_is_imported(words: tuple[str, ...]) -> None:
    loaded = modules_after(*words)
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_an_answer_imports_neither_transformers_nor_torchs_compiler() -> None:
    question = ("ask", "--quiet", "--max-new-tokens", "1", str(SAMPLE), "What is this?")
    loaded = modules_after(*question)
    assert "torch" in loaded
    # sympy comes with the compiler: a second that a short answer would wait for.
    assert loaded.isdisjoint({"transformers", "sympy"})


@pytest.mark.parametrize("command", sorted(cli.list_commands(click.Context(cli))))
def test_help_of_a_command_imports_no_network_library(command: str) -> None:
    # Defaults are read from the dataclasses, which know numpy; the rest waits for its use.
    loaded = modules_after(command, "--help")
    assert loaded.isdisjoint({"av", "cv2", "decord", "tokenizers", "torch", "transformers"})
    assert loaded.isdisjoint({"huggingface_hub", "textual", "yt_dlp"})


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_answers_in_a_quarter_of_a_second(words: tuple[str, ...]) -> None:
    # The best of several: a busy machine slows a run down, nothing speeds one up.
    best = min(seconds_for(*words) for _ in range(8))
    assert best < LIMIT_SECONDS


def seconds_for(*words: str) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "smolvideo", *words]
    subprocess.run(command, capture_output=True, env=environment(), check=True)
    return time.perf_counter() - started
