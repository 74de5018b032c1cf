"""``smolvideo --help`` is fast because it imports no heavy module."""

import os
import subprocess
import sys

import click
import pytest
from support.project import ROOT
from support.terminals import environment

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
MAX_TIMES_CLICK = 2.5
"""Limit of the help's CPU time over that of importing click; 1.5 when this was written."""
MAX_MODULES = 40
"""Limit of the help's modules beyond those of click; 24 when this was written."""
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


def modules_after(*words: str, whole_names: bool = False) -> set[str]:
    """Return the top-level modules that are loaded after ``smolvideo WORDS``."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST_MODULES, *words],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    names = done.stderr.split()
    return set(names) if whole_names else {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_nothing_heavy_is_imported(words: tuple[str, ...]) -> None:
    loaded = modules_after(*words)
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_answering_imports_neither_transformers_nor_the_torch_compiler() -> None:
    question = ("ask", "--quiet", "--max-new-tokens", "1", str(SAMPLE), "What is this?")
    loaded = modules_after(*question)
    assert "torch" in loaded
    # The compiler imports sympy, which takes a second.
    assert loaded.isdisjoint({"transformers", "sympy"})


@pytest.mark.parametrize("command", sorted(cli.list_commands(click.Context(cli))))
def test_help_of_a_command_imports_no_network_library(command: str) -> None:
    # Defaults come from dataclasses, which import numpy; other modules are imported at use.
    loaded = modules_after(command, "--help")
    assert loaded.isdisjoint({"av", "cv2", "decord", "tokenizers", "torch", "transformers"})
    assert loaded.isdisjoint({"huggingface_hub", "textual", "yt_dlp"})


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_imports_few_modules_besides_click(words: tuple[str, ...]) -> None:
    """A proxy for the quarter of a second that is independent of machine and load."""
    alone = [sys.executable, "-c", "import sys, click; print(*sys.modules)"]
    click_alone = subprocess.run(alone, capture_output=True, text=True, check=True).stdout
    loaded = modules_after(*words, whole_names=True)
    assert len(loaded - set(click_alone.split())) <= MAX_MODULES


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no figures of one process on this system")
@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_takes_little_more_cpu_time_than_click(words: tuple[str, ...]) -> None:
    # The best of several CPU times, because load on the machine increases both.
    costs = [
        (processor_seconds("-c", "import click"), processor_seconds("-m", "smolvideo", *words))
        for _ in range(3)
    ]
    assert min(ours for _, ours in costs) < MAX_TIMES_CLICK * min(click for click, _ in costs)


def processor_seconds(*words: str) -> float:
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, env=environment()
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime
