"""Tab completion in the protocols of bash, zsh and fish."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from smolvideo.cli.main import cli
from smolvideo.conversation.store import create
from smolvideo.conversation.turns import Settings, Turn

FREE = {
    "question", "revision", "start", "end", "stop", "max_filesize", "newer_than", "prompt",
    "window", "values", "choices", "rate", "api_key", "allow_host", "allow_origin",
    "allow_domain", "max_body", "query", "shard", "group",
}  # fmt: skip
"""Options with free text or numbers, which have no completion."""


def offered(shell: str, typed: str) -> list[tuple[str, ...]]:
    """Return the completions of the last word: type and value; zsh and fish add a description."""
    words = typed.split(" ")
    place = str(len(words) - 1)
    fish = {"COMP_WORDS": typed.rpartition(" ")[0], "COMP_CWORD": words[-1]}
    environment = {"COMP_WORDS": typed, "COMP_CWORD": place} if shell != "fish" else fish
    environment["_SMOLVIDEO_COMPLETE"] = f"{shell}_complete"
    done = CliRunner().invoke(cli, env=environment, prog_name="smolvideo", standalone_mode=True)
    lines = done.stdout.splitlines()
    if shell == "zsh":
        return list(zip(lines[::3], lines[1::3], lines[2::3], strict=True))
    if shell == "fish":
        kinds = (line.split(",", 1) for line in lines)
        return [(kind, *value.split("\t")) for kind, value in kinds]
    return [tuple(line.split(",", 1)) for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("smolvideo as", ("plain", "ask")),
        ("smolvideo ask --max-f", ("plain", "--max-frames")),
        ("smolvideo ask v", ("file", "v")),
        ("smolvideo ask v.mp4 w", ("file", "w")),
        ("smolvideo chat v", ("file", "v")),
        ("smolvideo frames v", ("file", "v")),
        ("smolvideo summarise v", ("file", "v")),
        ("smolvideo ask --subtitles a", ("plain", "auto")),
        ("smolvideo ask --subtitles f", ("file", "f")),
        ("smolvideo ask --save r", ("file", "r")),
        ("smolvideo ask -m na", ("plain", "nano")),
        ("smolvideo ask -m ./mod", ("dir", "./mod")),
        ("smolvideo models pull smolvlm2-2", ("plain", "smolvlm2-256m")),
        ("smolvideo models info smolvlm2-2", ("plain", "smolvlm2-256m")),
        ("smolvideo bench -m na", ("plain", "nano")),
        ("smolvideo ask --device c", ("plain", "cuda")),
        ("smolvideo ask --dtype b", ("plain", "bfloat16")),
        ("smolvideo ask --cookies-from-browser fire", ("plain", "firefox")),
        ("smolvideo summarise --format md,j", ("plain", "md,json")),
        ("smolvideo eval jsonl q", ("file", "q")),
        ("smolvideo config set mod", ("plain", "model")),
        ("smolvideo config set as", ("plain", "ask.")),
        ("smolvideo config set ask.max-f", ("plain", "ask.max-frames")),
        ("smolvideo config set ask.seek key", ("plain", "keyframes")),
        ("smolvideo config show su", ("plain", "summarise")),
    ],
)
def test_completions(shell: str, typed: str, expected: tuple[str, str]) -> None:
    assert expected in [item[:2] for item in offered(shell, typed)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("option", ["--session", "--forget"])
def test_conversations_are_completed_with_their_question(shell: str, option: str) -> None:
    with create(Settings(model="nano")) as journal:
        journal.save_turn(Turn("Who\n\x1b[31m waves?", "nobody"))
        kept = journal.folder.name
    items = offered(shell, f"smolvideo chat {option} 2")
    assert [item[:2] for item in items] == [("plain", kept)]
    if shell != "bash":  # bash shows names without descriptions
        assert items[0][2] == "Who waves?"


def test_every_named_value_is_completed() -> None:
    def parameters(command: click.Command, ctx: click.Context) -> list[tuple[str, click.Parameter]]:
        found = [(ctx.command_path, one) for one in command.params]
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                assert below is not None
                found += parameters(below, click.Context(below, info_name=name, parent=ctx))
        return found

    root = click.Context(cli, info_name="smolvideo")
    with_conversation = {"session", "forget"}
    for path, one in parameters(cli, root):
        is_number = isinstance(one.type, click.IntRange | click.FloatRange)
        is_flag = isinstance(one, click.Option) and (one.is_flag or one.count)
        if is_number or is_flag or one.name in FREE | with_conversation:
            continue
        assert one.shell_complete(root, ""), f"{path} {one.name}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this system")
def test_completion_in_bash(tmp_path: Path) -> None:
    """Sources the script and calls the function that it binds to the Tab key."""
    (tmp_path / "smolvideo").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m smolvideo "$@"\n')
    (tmp_path / "smolvideo").chmod(0o755)
    script = """
        eval "$(smolvideo completion bash)"
        complete -p smolvideo
        COMP_WORDS=(smolvideo ask --strat) COMP_CWORD=2
        _smolvideo_completion smolvideo --strat ask
        echo "offered: ${COMPREPLY[*]}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert "-F _smolvideo_completion smolvideo" in done.stdout
    assert "offered: --strategy" in done.stdout
    assert done.stderr == ""
