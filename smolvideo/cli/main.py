"""Entry point ``smolvideo``: lazy subcommands, and central error and exit-code handling.

Only click is imported here; the module of a subcommand is imported when it runs or prints its help,
so that ``smolvideo --help`` is fast.
"""

import contextlib
import errno
import io
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from smolvideo.errors import EXIT_INTERRUPTED, RecordError, SmolVideoError, UsageError, plain_reason
from smolvideo.sanitize import escape_controls
from smolvideo.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "ask": ("smolvideo.cli.ask:ask", "Answer a question about videos, pictures or URLs."),
    "chat": ("smolvideo.cli.chat:chat", "Talk about videos: see what the model sees."),
    "frames": ("smolvideo.cli.frames:frames", "Show the frames that a model will see."),
    "plan": ("smolvideo.cli.plan:plan", "Predict seconds and memory of an answer."),
    "summarise": (
        "smolvideo.cli.summarise:summarise",
        "Summarise videos: files, folders, URLs, playlists, lists.",
    ),
    "index": ("smolvideo.cli.index:index", "Index videos for `find`."),
    "find": ("smolvideo.cli.find:find", "Find moments in videos."),
    "serve": ("smolvideo.cli.serve:serve", "Serve a model to OpenAI's clients, with video."),
    "mcp": ("smolvideo.cli.mcp:mcp", "Offer tools to agents: questions about videos."),
    "eval": ("smolvideo.cli.eval:evaluate", "Run multiple-choice benchmarks."),
    "compare": ("smolvideo.cli.compare:compare", "Say what differs between two videos."),
    "replay": (
        "smolvideo.cli.replay:replay",
        "Compute answers of records again, and name the first difference.",
    ),
    "bench": (
        "smolvideo.cli.bench:bench",
        "Measure speed and memory of engines, stage by stage.",
    ),
    "models": ("smolvideo.cli.models:models", "List, download, delete and choose models."),
    "cache": ("smolvideo.cli.cache:cache", "Show or clear the caches on disk."),
    "doctor": ("smolvideo.cli.doctor:doctor", "Check what works on this machine."),
    "config": ("smolvideo.cli.config:config", "Show or change the defaults of options."),
    "train": ("smolvideo.cli.train:train", "Train the bundled model, or render the sample videos."),
    "tune": ("smolvideo.cli.tune:tune", "Fine-tune a model on your own clips."),
    "completion": (
        "smolvideo.cli.main:completion",
        "Print a shell's completion script.",
    ),
}
"""Name → import path of the command, and its line in the help (its docstring's first sentence)."""

ALIASES = {"summarize": "summarise"}
"""Other spellings of commands, not listed in the help."""

EXIT_PIPE_CLOSED = 141
"""The reader of stdout closed the pipe; shells report 128 + SIGPIPE."""


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)


class _ClosedOutput(io.TextIOWrapper):
    """Replaces a closed stdout (``>&-``): writing raises, instead of losing output silently."""

    def write(self, _: str) -> NoReturn:
        raise OSError(errno.EBADF, "stdout is closed")


class _PipeClosed(Exception):
    """Wraps BrokenPipeError, which click would turn into an exit code of its own."""


class Commands(click.Group):
    """Lazy group of all commands; ``main`` maps every error to a message and an exit code.

    A command with an ``error_exit_code`` has that for every error: the others mean something else.
    """

    debug = False
    _words: Sequence[str] = ()
    _error_code: int | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in {*COMMANDS, *ALIASES} and not args[0].startswith("-"):
            raise _no_such_command(args[0])
        name, command, rest = super().resolve_command(ctx, args)
        self._error_code = getattr(command, "error_exit_code", None)
        if command is not None and not ctx.resilient_parsing:
            self._read_defaults(ctx, command, rest)
        return name, command, rest

    def _read_defaults(self, ctx: click.Context, command: click.Command, rest: list[str]) -> None:
        """Take defaults from the configuration file, but not for help, which never fails."""
        words = rest[: rest.index("--")] if "--" in rest else rest
        if {"-h", "--help"} & {*words}:
            return
        from smolvideo.cli.config_file import CREATES, WITHOUT_TABLE, ConfigFile, FileDefaults

        if command.name not in WITHOUT_TABLE:
            typed = (command.name, *(word for word in words if not word.startswith("-")))
            file = ConfigFile.read(may_be_missing=typed[: len(CREATES)] == CREATES)
            ctx.default_map = FileDefaults(file, (("", self),))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _PipeClosed from error
        return result

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run and exit; with ``standalone_mode=False`` the exit code is returned instead."""
        standalone = extra.pop("standalone_mode", True)
        self.debug = os.environ.get("SMOLVIDEO_DEBUG", "") not in ("", "0")
        self._words = sys.argv[1:] if args is None else list(args)
        self._error_code = None
        code = self._run(args, prog_name or "smolvideo", extra)
        if standalone:
            sys.exit(code)
        return code

    def _run(self, args: Sequence[str] | None, prog_name: str, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args, prog_name, standalone_mode=False, **extra)
            return code if isinstance(code, int) else 0
        except click.Abort as abort:  # click's form of KeyboardInterrupt and EOFError
            if isinstance(abort.__cause__, EOFError):
                return self._show(abort.__cause__)
            return EXIT_INTERRUPTED
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except _PipeClosed:
            _detach_stdout()
            return EXIT_PIPE_CLOSED
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
            return UsageError.exit_code
        except Exception as error:
            return self._show(error)

    def _show(self, error: Exception) -> int:
        """Show an error on stderr, and return its exit code."""
        if self.debug:
            trace = "".join(traceback.format_exception(error))
            shown = escape_controls(_without_secrets(trace, self._words), allowed="\n\t")
            click.echo(shown, err=True)
        message, hint, code = _describe_error(error)
        _echo_line("Error: ", "red", _without_secrets(message, self._words))
        if hint:
            _echo_line("hint: ", "cyan", _without_secrets(hint, self._words))
        return code if self._error_code is None else self._error_code


def _without_secrets(text: str, words: Sequence[str]) -> str:
    """Redact credentials: errors of libraries may contain URLs as typed, or parts of them."""
    from smolvideo.credentials import WebAddress, environment_secrets, redact

    typed = [secret for word in words if "://" in word for secret in WebAddress(word).secrets]
    return redact(text, [*typed, *environment_secrets(os.environ)])


def _describe_error(error: Exception) -> tuple[str, str | None, int]:
    """Message, hint and exit code of an error."""
    if isinstance(error, SmolVideoError):
        return str(error), error.hint, error.exit_code
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "smolvideo"
        return _in_our_style(error.format_message()), f"see `{path} --help`", error.exit_code
    if isinstance(error, click.ClickException):
        return _in_our_style(error.format_message()), None, error.exit_code
    if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
        # The error names no file, so it concerns stdout.
        return f"cannot write the output: {error.strerror}", None, RecordError.exit_code
    kind = type(error).__name__
    words = f"unexpected error: {kind}: {plain_reason(error)}"
    hint = "`--debug` shows where; `smolvideo doctor` checks this machine"
    return words, hint, SmolVideoError.exit_code


def _in_our_style(sentence: str) -> str:
    """Reformat click's messages: no capital, no full stop, names in backticks."""
    sentence = re.sub(r"'([^'\s]+)'", r"`\1`", sentence).rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _echo_line(label: str, colour: str, text: str) -> None:
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    shown = label if plain or not sys.stderr.isatty() else click.style(label, fg=colour, bold=True)
    # One error is one line, even if a library's message has several.
    click.echo(shown + " ".join(escape_controls(text, allowed="\n\t").split()), err=True)


def _no_such_command(name: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    if near:
        return UsageError(f"no such command: `{name}`", hint=f"did you mean `smolvideo {near[0]}`?")
    return UsageError(f"no such command: `{name}`", hint="see `smolvideo --help`")


def _detach_stdout() -> None:
    """Redirect stdout to the null device: Python's flush at exit into a closed pipe would raise."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # stdout has no file descriptor, so nothing is flushed
        pass


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    root = ctx.find_root().command
    if value and isinstance(root, Commands):
        root.debug = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error (or set SMOLVIDEO_DEBUG=1).",
)
"""Accepted before and after the name of a command."""


HELP_NAMES = ["-h", "--help"]


@click.group(
    "smolvideo",
    cls=Commands,
    context_settings={"help_option_names": HELP_NAMES, "max_content_width": 100},
    epilog=(
        "Exit codes: 0 ok, 1 unexpected, 2 usage, 3 source or reader, 4 prompt or model, "
        "5 records, 6 some of a batch failed, 130 interrupted. Those of `find` are grep's: "
        "0 found, 1 nothing found, 2 error."
    ),
)
@click.version_option(__version__, "-V", "--version", prog_name="smolvideo")
@debug_option
def cli() -> None:
    """Ask questions about videos on the machine in front of you.

    \b
    smolvideo ask party.mp4 "Who blows out the candles?"
    smolvideo ask --model smolvlm2-256m https://… "What happens?"

    Everything runs on this machine; with `--offline` no network is used.
    """


def main() -> NoReturn:
    """Console script."""
    _replace_closed_streams()
    _set_utf8_streams()
    _silence_libraries()
    code = cli.main(standalone_mode=False)
    if code == EXIT_INTERRUPTED or any(thread.daemon for thread in threading.enumerate()):
        # A daemon thread may still load weights: Python's shutdown would free torch under it, or
        # delay the exit after Ctrl-C.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Replace closed standard streams (``2>&-``): stdin and stderr by the null device.

    Python sets them to None, and the next opened file would get their descriptor.
    """
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _ClosedOutput(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _silence_libraries() -> None:
    """Hide warnings of libraries, unless ``--debug`` or Python's ``-W`` is set.

    Warnings that concern users are reported as notices where they are detected.
    """
    debug = "--debug" in sys.argv or os.environ.get("SMOLVIDEO_DEBUG", "") not in ("", "0")
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.lastResort = None  # the fallback handler, which writes to stderr


def _set_utf8_streams() -> None:
    """Write UTF-8 on Windows, and escape characters that the encoding lacks on all systems."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            encoding = "utf-8" if sys.platform == "win32" else None
            reconfigure(encoding=encoding, errors="backslashreplace")


SHELLS = ("bash", "zsh", "fish")


@click.command(context_settings={"help_option_names": HELP_NAMES})
@click.argument("shell", type=click.Choice(SHELLS))
@debug_option
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash  eval "$(smolvideo completion bash)"         in ~/.bashrc
    zsh   eval "$(smolvideo completion zsh)"          in ~/.zshrc
    fish  smolvideo completion fish | source          in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "smolvideo", "_SMOLVIDEO_COMPLETE").source())
