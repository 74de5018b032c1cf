"""The command line as a whole: help, option names and types, arguments, errors, completion."""

import errno
import os
import re
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import click
import pytest
from click.testing import CliRunner, Result

import smolvideo
from smolvideo.cli.ask import AskFlags
from smolvideo.cli.ask_arguments import split_arguments
from smolvideo.cli.bench import BenchFlags
from smolvideo.cli.chat import ChatFlags
from smolvideo.cli.eval_options import EvalFlags
from smolvideo.cli.eval_run import ExamFlags
from smolvideo.cli.flags import FIELD_BY_FLAG, Flags, SizeType
from smolvideo.cli.frames import FramesFlags
from smolvideo.cli.main import COMMANDS, EXIT_PIPE_CLOSED, cli
from smolvideo.cli.options import read_sampling
from smolvideo.cli.summarise import SummariseFlags
from smolvideo.engines import GenerationOptions
from smolvideo.errors import PromptError, SmolVideoError, SourceError, UsageError
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling, RelativeTime
from smolvideo.source import DownloadOptions


def run(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(words), input=stdin)


def command_named(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def options_of(name: str) -> dict[str, click.Option]:
    """The options of a command by their long flag, without the dashes."""
    return {
        next(flag for flag in option.opts if flag.startswith("--"))[2:]: option
        for option in command_named(name).params
        if isinstance(option, click.Option)
    }


# ------------------------------------------------------------------ help


def test_version() -> None:
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"smolvideo, version {smolvideo.__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_command_list_has_the_first_line_of_each_help(name: str) -> None:
    command = command_named(name)
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name][1]
    assert COMMANDS[name][1] in run("--help").stdout


@pytest.mark.parametrize("name", ["ask", "frames"])
def test_help_shows_the_default_of_every_option(name: str) -> None:
    context = click.Context(command_named(name))
    for flag, option in options_of(name).items():
        if option.is_flag and not option.secondary_opts:
            continue  # flags are off by default
        record = option.get_help_record(context)
        assert record is not None
        assert "default: " in record[1], f"--{flag} does not say its default"
        assert "None" not in record[1]


def test_help_is_in_sections() -> None:
    text = run("ask", "--help").stdout
    headings = re.findall(r"^(\w+):$", text, re.MULTILINE)
    wanted = (
        "Question Conversation Model Frames Prompt Answer Choices Evidence Download "
        "Output Terminal Other"
    )
    assert headings == wanted.split()


def test_help_is_shown_without_a_command() -> None:
    done = run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


# ------------------------------------------------------------------ flags and fields


@pytest.mark.parametrize(
    ("owner", "not_options"),
    [
        (FrameSampling, {"reduce_to_fit"}),
        (GenerationOptions, set()),
        (PromptOptions, set()),
        (DownloadOptions, None),
    ],
)
def test_options_equal_the_fields_of_the_dataclasses(
    owner: type, not_options: set[str] | None
) -> None:
    options = options_of("ask")
    flag_of_field = {field: flag for flag, field in FIELD_BY_FLAG.items()}
    for field in fields(owner):  # type: ignore[arg-type]
        flag = flag_of_field.get(field.name, field.name).replace("_", "-")
        if not_options is None and flag not in options:
            continue  # fields set by the Python interface only
        if not_options and field.name in not_options:
            assert flag not in options
            continue
        shown = options[flag].get_default(click.Context(command_named("ask")), call=True)
        assert (shown or None) == (field.default or None), f"--{flag}"


def matches(value: object, hint: Any) -> bool:
    """Whether a value has the type of an annotation."""
    if get_origin(hint) in (Union, UnionType):
        return any(matches(value, one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(matches(one, get_args(hint)[0]) for one in value)
    return isinstance(value, (int, float) if hint is float else hint)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("ask", AskFlags),
        ("chat", ChatFlags),
        ("frames", FramesFlags),
        ("summarise", SummariseFlags),
        ("bench", BenchFlags),
        ("eval cinepile", EvalFlags),
        ("eval world", ExamFlags),
    ],
)
def test_values_and_choices_have_the_types_of_their_fields(command: str, kind: type[Flags]) -> None:
    name, *more = command.split()
    found = command_named(name)
    for one in more:
        found = cast(click.Group, found).get_command(click.Context(found), one) or found
    words = ["a.mp4"] if name == "frames" else []
    # click keeps the help option of the first context: that of the program has `-h`.
    root = click.Context(cli, **cli.context_settings)
    with found.make_context(command, words, parent=root) as context:
        given = kind.read(context)
    options = {option.name: option for option in found.params}
    hints = get_type_hints(kind)
    assert options.keys() - {"debug"} <= hints.keys()
    for field in fields(kind):
        hint, option = hints[field.name], options.get(field.name)
        if option is None:
            continue
        assert matches(getattr(given, field.name), hint), field.name
        if isinstance(option.type, click.Choice):
            element = get_args(hint)[0] if get_origin(hint) is tuple else hint
            assert all(matches(choice, element) for choice in option.type.choices), field.name


def test_download_options_exist() -> None:
    assert {"cookies", "cookies-from-browser", "max-filesize", "max-height"} <= {*options_of("ask")}


def sampling_for(*words: str) -> FrameSampling:
    command = command_named("ask")
    root = click.Context(cli, **cli.context_settings)
    with command.make_context("ask", [*words, "a.mp4", "What?"], parent=root) as context:
        return read_sampling(AskFlags.read(context))


def test_explicit_frame_count_is_never_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sampling_for() == FrameSampling()
    assert sampling_for("--max-frames", "50") == FrameSampling(reduce_to_fit=False)


def test_window_times_are_parsed() -> None:
    window = sampling_for("--start", "1:30", "--end", "50%")
    assert (window.start_seconds, window.end_seconds) == (90.0, RelativeTime(0.5))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500M", 500_000_000),
        ("1.5g", 1_500_000_000),
        ("2GiB", 2 * 1024**3),
        ("10 kB", 10_000),
        ("1000000", 1_000_000),
    ],
)
def test_sizes_are_parsed(text: str, size: int) -> None:
    assert SizeType().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "M", "-5M", "0", "5X", "nan", "inf", "1e400", "5MM"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"`{text}` is no size: write bytes, or 500M"):
        SizeType().convert(text, None, None)


# ------------------------------------------------------------------ sources and question


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "what"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.txt").write_text("c.mp4\n")
    return tmp_path


@pytest.mark.usefixtures("here")
def test_last_argument_is_the_question() -> None:
    typed = split_arguments(["a.mp4", "b.mp4", " What? "], question=None, source_list=None)
    assert (typed.sources, typed.question) == (("a.mp4", "b.mp4"), "What?")


@pytest.mark.usefixtures("here")
def test_question_option_makes_all_arguments_sources() -> None:
    typed = split_arguments(["a.mp4", "b.mp4"], question="what", source_list=None)
    assert (typed.sources, typed.question) == (("a.mp4", "b.mp4"), "what")


@pytest.mark.usefixtures("here")
def test_sources_of_a_list_follow_the_arguments() -> None:
    typed = split_arguments(["What?"], question=None, source_list=Path("list.txt"))
    assert [str(source) for source in typed.sources] == ["c.mp4"]
    typed = split_arguments(["a.mp4", "What?"], question=None, source_list=Path("list.txt"))
    assert [str(source) for source in typed.sources] == ["a.mp4", "c.mp4"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no question"),
        (["a.mp4"], "no question: `a.mp4` is a source"),
        (["a.mp4", "b.mp4"], "no question: `b.mp4` is a source"),
        (["a.mp4", "missing.MKV"], "no question: `missing.MKV` is a source"),
        (["a.mp4", "https://example.org/watch?v=1"], "no question: "),
        (["What?"], "no video to ask `What?` about"),
        (["-"], "no video to ask"),
    ],
)
def test_missing_arguments_are_usage_errors(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        split_arguments(words, question=None, source_list=None)
    assert caught.value.hint


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "says", "right"),
    [
        (["What moves?", "a.mp4"], "before the sources", 'a.mp4 "What moves?"'),
        (["What", "moves?", "a.mp4", "b.mp4"], "before the sources", 'a.mp4 b.mp4 "What moves?"'),
        (["a.mp4", "What", "moves?"], "no such file or folder: `What`", 'a.mp4 "What moves?"'),
        (["a.mp4", "Is", "1/2", "red?"], "no such file or folder: `Is`", 'a.mp4 "Is 1/2 red?"'),
        (["What", "moves?"], "no such file or folder: `What`", 'VIDEO "What moves?"'),
        (["a.mp4", "is", "$x", "red?"], "no such file or folder: `is`", "a.mp4 'is $x red?'"),
    ],
)
def test_misplaced_or_unquoted_question_has_a_hint(words: list[str], says: str, right: str) -> None:
    with pytest.raises(SmolVideoError, match=re.escape(says)) as caught:
        split_arguments(words, question=None, source_list=None)
    assert str(caught.value.hint).endswith(f": `smolvideo ask {right}`")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("words", [["nothere", "What moves?"], ["nothere/", "What?"], ["c*", "d"]])
def test_missing_source_is_not_part_of_the_question(words: list[str]) -> None:
    assert split_arguments(words, question=None, source_list=None).question == words[-1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("question", ["Is it https://example.org ?", "Is this a.mp4", "x" * 5000])
def test_questions_that_resemble_sources(question: str) -> None:
    assert (
        split_arguments(["a.mp4", question], question=None, source_list=None).question == question
    )


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("question", ["", " \t\n"])
def test_empty_question_is_refused(question: str) -> None:
    with pytest.raises(PromptError, match="no text"):
        split_arguments(["a.mp4", question], question=None, source_list=None)


@pytest.mark.usefixtures("here")
def test_stdin_for_two_arguments_is_refused() -> None:
    with pytest.raises(UsageError, match="both come from stdin"):
        split_arguments(["-"], question=None, source_list=Path("-"))


@pytest.mark.usefixtures("here")
def test_empty_source_list_is_refused() -> None:
    Path("empty.txt").write_text("# nothing\n")
    with pytest.raises(SourceError, match=r"`empty\.txt` names no source"):
        split_arguments(["What?"], question=None, source_list=Path("empty.txt"))


# ------------------------------------------------------------------ errors


def failing_with(error: BaseException) -> click.Command:
    @click.command()
    def frames() -> None:
        raise error

    return frames


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """``smolvideo frames`` replaced by a command that raises."""

    def replace(error: BaseException) -> None:
        monkeypatch.setattr("smolvideo.cli.frames.frames", failing_with(error))

    return replace


def test_expected_error_is_a_line_and_a_hint(failing) -> None:  # type: ignore[no-untyped-def]
    failing(SourceError("no such file: `a\x1b[2Jb`", hint="look\nbeside it"))
    done = run("frames")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "Error: no such file: `a\\x1b[2Jb`\nhint: look beside it\n"


def test_unexpected_error_is_one_line(failing) -> None:  # type: ignore[no-untyped-def]
    failing(KeyError("x\ny"))
    done = run("frames")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: unexpected error: KeyError: ")
    assert "`--debug`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("--debug", "frames"), ("frames",)])
def test_debug_adds_the_traceback(failing, monkeypatch, words) -> None:  # type: ignore[no-untyped-def]
    if "--debug" not in words:
        monkeypatch.setenv("SMOLVIDEO_DEBUG", "1")
    failing(SourceError("gone"))
    done = run(*words)
    assert done.exit_code == 3
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("Error: gone\n")


def test_debug_ends_with_its_run(failing) -> None:  # type: ignore[no-untyped-def]
    failing(SourceError("gone"))
    run("--debug", "frames")
    assert "Traceback" not in run("frames").stderr


def test_debug_is_accepted_after_the_command() -> None:
    done = run("ask", "nowhere.mp4", "What?", "--debug")
    assert "Traceback" in done.stderr
    assert done.exit_code == 3


def test_interrupt_prints_nothing(failing) -> None:  # type: ignore[no-untyped-def]
    failing(KeyboardInterrupt())
    done = run("frames")
    assert (done.exit_code, done.stdout, done.stderr.strip()) == (130, "", "")


def test_closed_pipe_prints_nothing(failing) -> None:  # type: ignore[no-untyped-def]
    failing(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    done = run("frames")
    assert (done.exit_code, done.stdout, done.stderr) == (EXIT_PIPE_CLOSED, "", "")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("frmes",), "no such command: `frmes`", "did you mean `smolvideo frames`?"),
        (("zzz\x1b",), "no such command: `zzz\\x1b`", "see `smolvideo --help`"),
        (("ask", "--max-frames", "x"), "invalid value for `--max-frames`: `x` is not", "see `"),
        (("ask", "--fps", "nan"), "nan is not a finite number", "see `smolvideo ask --help`"),
        (("ask", "--output", ""), "`-o`: the name is empty", "see `smolvideo ask --help`"),
        (("models", "--json", "list"), "behind the name", "`smolvideo models list --json`"),
        (("models", "bogus"), "no such command `bogus`", "see `smolvideo models --help`"),
        (("completion",), "Choose from: bash, zsh, fish", "see `smolvideo completion --help`"),
        (("ask", "--start", "1:99"), "`1:99` is no time", "see `smolvideo ask --help`"),
        (("ask", "--nonsense"), "no such option `--nonsense`", "see `smolvideo ask --help`"),
    ],
)
def test_usage_errors_have_the_format_of_other_errors(
    words: tuple[str, ...], error: str, hint: str
) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Error: ")
    assert error in lines[0]
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--seed", "3"), "`--seed` has no effect"),
        (("--top-p", "0.9"), "`--top-p` has no effect"),
        (("--fps", "2", "--strategy", "v1"), "cannot be combined with fps"),
        (("--max-height", "360"), "`--max-height` is for downloads"),
        (("--cookies-from-browser", "firefox"), "`--cookies-from-browser` is for downloads"),
        (("--overwrite",), "`--overwrite` has no effect"),
        (("--quiet", "--verbose"), "contradict"),
        (("--filmstrip", "blocks", "--quiet"), "contradict"),
        (("--filmstrip", "kitty", "--no-filmstrip"), "contradict"),
    ],
)
@pytest.mark.usefixtures("here")
def test_incompatible_options_are_usage_errors(words: tuple[str, ...], says: str) -> None:
    done = run("ask", "a.mp4", "What?", *words)
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.usefixtures("here")
def test_contradictory_flags_are_refused_whatever_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMOLVIDEO_FILMSTRIP", "blocks")
    done = run("ask", "a.mp4", "What?", "--filmstrip", "sixel", "--quiet")
    assert (done.exit_code, "contradict" in done.stderr) == (2, True)
    # a setting of the environment is overridden without a notice
    assert run("ask", "a.mp4", "What?", "--quiet").exit_code == 3  # a.mp4 is not a video


@pytest.mark.usefixtures("here")
def test_answer_and_record_need_two_files() -> None:
    Path("link").symlink_to("there.txt")
    done = run("ask", "a.mp4", "What?", "--output", "there.txt", "--save", "link", "--overwrite")
    assert (done.exit_code, "name the same file" in done.stderr) == (2, True)
    assert not Path("there.txt").exists()


@pytest.mark.usefixtures("here")
def test_file_name_that_looks_like_an_option_has_a_hint() -> None:
    Path("-x.mp4").touch()
    done = run("ask", "-x.mp4", "What?")
    assert done.exit_code == 2
    assert done.stderr == (
        "Error: the file `-x.mp4` reads like an option\nhint: write `./-x.mp4`\n"
    )
    assert "0 bytes" in run("ask", "./-x.mp4", "What?").stderr


@pytest.mark.parametrize("name", ["ask", "frames", "models list", "train nano", "completion"])
def test_debug_is_an_option_of_every_command(name: str) -> None:
    assert "--debug" in run(*name.split(), "--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0
    assert "_SMOLVIDEO_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("smolvideo as", "ask"),
        ("smolvideo ask --max-f", "--max-frames"),
        ("smolvideo ask -m na", "nano"),
    ],
)
def test_completion_of_commands_options_and_models(typed: str, offered: str) -> None:
    words = typed.split()
    done = CliRunner().invoke(
        cli,
        env={
            "_SMOLVIDEO_COMPLETE": "bash_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(words) - 1),
        },
        prog_name="smolvideo",
    )
    assert offered in [line.partition(",")[2] for line in done.stdout.splitlines()]
