"""``smolvideo chat`` in pipes and terminals, and ``smolvideo ask --continue``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.talking import ANSWER, CIRCLE, TRIANGLE, WHAT, WHERE_TO
from support.terminals import Terminal, run_process

from smolvideo.cli.main import cli
from smolvideo.conversation.store import list_sessions
from smolvideo.records import AnswerRecord

FEW = ("--max-frames", "16", "--device", "cpu")


def run(*words: str | Path, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], input=stdin)


def test_chat_answers_lines_of_stdin() -> None:
    done = run("chat", "--plain", TRIANGLE, *FEW, stdin=f"{WHAT}\n\n{WHERE_TO}\n")
    assert done.exit_code == 0
    assert done.stdout == f"{ANSWER}\ndown\n"


def test_chat_without_a_terminal_is_plain() -> None:
    done = run("chat", TRIANGLE, *FEW, stdin=f"{WHAT}\n/quit\nnever asked\n")
    assert done.stdout == f"{ANSWER}\n"


def test_commands_and_errors_are_on_stderr(tmp_path: Path) -> None:
    lines = ["/frames 8", "/nonsense", "/edit", f"/save {tmp_path / 'a.md'}", "/help", WHAT]
    done = run("chat", TRIANGLE, *FEW, stdin="\n".join(lines))
    assert done.exit_code == 6, "a line failed"
    assert "looking at 8 frames" in done.stderr
    assert "Error: there is no command `/nonsense`" in done.stderr
    assert "nothing was asked yet" in done.stderr
    assert "/zoom 1:10 1:40" in done.stderr
    assert "/copy" not in done.stderr
    assert done.stdout.count("\n") == 1
    assert (tmp_path / "a.md").exists()


def test_zoom_and_edit_ask_immediately() -> None:
    lines = [WHAT, f"/zoom 0:01 0:03 {WHERE_TO}", "/edit What color is the star?"]
    done = run("chat", TRIANGLE, *FEW, stdin="\n".join(lines))
    assert done.stdout.splitlines()[0] == ANSWER
    assert len(done.stdout.splitlines()) == 3
    assert list_sessions()[0].turns == 2


def test_records_of_answers_and_errors() -> None:
    done = run("chat", TRIANGLE, *FEW, "--jsonl", stdin=f"{WHAT}\n{'x ' * 3000}\n{WHERE_TO}\n")
    records = [AnswerRecord.from_json(line) for line in done.stdout.splitlines()]
    assert [record.text for record in records] == [ANSWER, None, "down"]
    assert records[1].error is not None
    assert done.exit_code == 6


def test_unreadable_source_ends_chat() -> None:
    done = run("chat", "nothere.mp4", stdin=WHAT)
    assert done.exit_code == 3
    assert "no such file" in done.stderr
    assert list_sessions() == []


def test_chat_continues_the_last_conversation() -> None:
    run("chat", TRIANGLE, *FEW, stdin=WHAT)
    done = run("chat", "--continue", stdin=WHERE_TO)
    assert done.stdout == "down\n"
    assert [one.turns for one in list_sessions()] == [2]
    name = list_sessions()[0].id
    done = run("chat", "--session", name, stdin="What color is the star?")
    assert done.exit_code == 0
    assert list_sessions()[0].turns == 3
    assert name in run("chat", "--sessions").stdout
    assert run("chat", "--forget", name).exit_code == 0
    assert list_sessions() == []


def test_ask_continue() -> None:
    assert run("ask", TRIANGLE, WHAT, *FEW).stdout == f"{ANSWER}\n"
    done = run("ask", "--continue", WHERE_TO)
    assert done.stdout == "down\n"
    done = run("ask", "--continue", "--json", "What color is the star?")
    content = json.loads(done.stdout)
    assert content["question"] == "What color is the star?"
    assert content["text"]
    assert content["sources"][0]["name"] == "triangle_down.mp4"
    assert run("chat", "--continue", stdin="How many things are there?").exit_code == 0
    assert [one.turns for one in list_sessions()] == [4]


def test_ask_continue_with_another_source() -> None:
    run("ask", TRIANGLE, WHAT, *FEW)
    done = run("ask", "--continue", CIRCLE, "What moves?", "--max-frames", "8")
    assert done.exit_code == 0
    assert done.stdout.strip()
    assert list_sessions()[0].sources == ("triangle_down.mp4", "circle_right.mp4")


def test_no_keep_saves_no_conversation() -> None:
    run("ask", TRIANGLE, WHAT, *FEW, "--no-keep")
    run("chat", TRIANGLE, *FEW, "--no-keep", stdin=WHAT)
    assert list_sessions() == []
    done = run("ask", "--continue", WHERE_TO)
    assert done.exit_code == 5
    assert "no conversation to continue" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chat", "--plain"), "no video to talk about"),
        (("chat", "--continue", "--session", "x"), "contradict"),
        (("chat", "--session", "../x"), "is no conversation"),
        (("chat", "--continue", "--no-keep"), "`--no-keep` cannot be"),
        (("ask", "--continue", "--no-keep", "x"), "`--no-keep` cannot be"),
        (("chat", "--plain", "--theme", "dark", "x.mp4"), "full screen"),
        (("chat", "--subtitles", "auto", "--continue"), "needs a source"),
    ],
)
def test_incompatible_options_are_usage_errors(words: tuple[str, ...], told: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert told in done.stderr


@pytest.mark.parametrize(
    "option", [("--max-frames", "3"), ("--geometry", "pad"), ("--layout", "nano"), ("--start", "1")]
)
def test_options_without_effect_with_continue_are_usage_errors(option: tuple[str, str]) -> None:
    run("ask", TRIANGLE, WHAT, *FEW)
    done = run("ask", "--continue", *option, "And?")
    assert done.exit_code == 2
    assert f"`{option[0]}` has no effect with `--continue`" in done.stderr


def test_chat_in_a_subprocess_with_a_pipe(tmp_path: Path) -> None:
    done = run_process(
        "chat", "--plain", TRIANGLE, *FEW, stdin=f"{WHAT}\n", SMOLVIDEO_DATA_DIR=str(tmp_path)
    )
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n")


@pytest.mark.slow
def test_full_screen_restores_the_terminal() -> None:
    with Terminal(["chat", TRIANGLE, *FEW]) as terminal:
        terminal.wait_for("16 frames")
        terminal.type(WHAT.encode() + b"\r")
        terminal.wait_for("first word after")
        terminal.type(b"\x11")
        assert terminal.finish() == 0
        assert terminal.is_as_it_was
        assert b"\x1b[?1049l" in terminal.raw
    assert run("ask", "--continue", WHERE_TO).stdout == "down\n"


def test_plain_chat_in_a_terminal_has_a_prompt(tmp_path: Path) -> None:
    changes = {"SMOLVIDEO_DATA_DIR": str(tmp_path)}
    with Terminal(["chat", "--plain", TRIANGLE, *FEW], **changes) as terminal:
        terminal.wait_for("> ")
        terminal.type(WHAT.encode() + b"\r")
        terminal.wait_for("on a grey")
        # Ctrl-D is lost unless the line editor has shown its prompt.
        terminal.wait_for("> ", after="tokens/s")
        terminal.type(b"\x04")
        assert terminal.finish() == 0
