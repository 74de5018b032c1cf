"""The configuration file: defaults of options, validated like the command line.

    model = "smolvlm2-500m"     # of every command that has the option
    [ask]
    max-frames = 20
    [eval.cinepile]
    sample = 100

A table has the name of a command and the long options of the command, or of those below it. The
command line comes first, then the environment, the file, and the built-in default. TOML:
https://toml.io/en/v1.0.0
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from click.types import FloatParamType, IntParamType

from smolvideo.errors import UsageError
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import decode_text, open_regular

VARIABLE = "SMOLVIDEO_CONFIG"
MAX_BYTES = 65_536
WITHOUT_TABLE = ("config", "completion", "replay")
"""Commands that never read the file: the first must be able to mend it, and the last takes all from
records."""
CREATES = ("models", "use")
"""The command beside those that creates the file where ``VARIABLE`` names one that is missing."""

_PATHS = ("file", "path", "directory")
"""Types whose ``~`` no shell has expanded."""

Chain = tuple[tuple[str, click.Command], ...]
"""The names and commands of a command line, the program first."""


def config_path() -> Path:
    """Return ``$SMOLVIDEO_CONFIG``, else ``config.toml`` in the platform's folder of settings.

    That is in ``~/.config`` on Linux, ``~/Library/Application Support`` on macOS and
    ``%LOCALAPPDATA%`` on Windows. Raises UsageError for a user without a home folder.
    """
    try:
        if chosen := os.environ.get(VARIABLE):
            return Path(chosen).expanduser().absolute()
        import platformdirs

        return platformdirs.user_config_path("smolvideo", appauthor=False) / "config.toml"
    except RuntimeError as error:
        raise UsageError(
            f"no home folder for {VARIABLE}: {error}", hint=f"set {VARIABLE} to a file"
        ) from error


@dataclass(frozen=True)
class Setting:
    """One value of the file, for one option of one command."""

    keys: tuple[str, ...]
    """Its place: the names of the tables, and its own."""
    option: click.Option
    value: bool | str | list[str]
    """As click takes it from a command line."""


@dataclass(frozen=True)
class ConfigFile:
    """The content of the file; empty if there is none."""

    path: Path
    text: str = ""

    @classmethod
    def read(cls, *, may_be_missing: bool = False) -> "ConfigFile":
        """Read the user's file. Raises UsageError if it is unreadable or damaged, and unless it
        ``may_be_missing`` if ``VARIABLE`` names none."""
        path = config_path()
        shown = display_path(path)
        if str(path) == os.devnull:
            return cls(path)
        try:
            with open_regular(path) as file:
                content = file.read(MAX_BYTES + 1)
            text = decode_text(content)
        except FileNotFoundError:
            if os.environ.get(VARIABLE) and not may_be_missing:
                raise UsageError(
                    f"no such file: {shown}, which {VARIABLE} names",
                    hint="`smolvideo config set KEY VALUE` creates it",
                ) from None
            return cls(path)
        except UnicodeDecodeError as error:
            raise UsageError(f"the configuration file {shown} is not UTF-8") from error
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot read the configuration file {shown}: {why}",
                hint=f"{VARIABLE} names another file; {os.devnull} is none",
            ) from error
        if len(content) > MAX_BYTES:
            raise UsageError(
                f"the configuration file {shown} is larger than {MAX_BYTES // 1024} KiB"
            )
        return cls(path, text)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The parsed tables. Raises UsageError for invalid TOML."""
        try:
            return tomllib.loads(self.text)
        except (ValueError, RecursionError) as error:
            too_deep = isinstance(error, RecursionError)
            why = "it is nested too deeply" if too_deep else display_name(str(error))
            raise UsageError(f"{display_path(self.path)}: invalid TOML: {why}") from error

    def settings(self, chain: Chain) -> dict[str, Setting]:
        """Return the settings of the last command of ``chain``, by parameter; the nearest wins.

        Raises UsageError, with the line, for unknown names and for values that the option does not
        take. Tables of other commands are not looked at.
        """
        options, last = long_options(chain[-1][1]), chain[-1][1]
        found: dict[str, Setting] = {}
        # A group leaves unknown names to its subcommand, which is imported then anyway.
        runs_alone = not isinstance(last, click.Group) or last.invoke_without_command
        table = self.content
        for depth, (name, command) in enumerate(chain):
            keys = tuple(name for name, _ in chain[1 : depth + 1])
            if depth:
                inner = table.get(name, {})
                if not isinstance(inner, dict):
                    break  # an option of the group has the name of the command: `bench --frames`
                table = inner
            for key, value in table.items():
                if not isinstance(value, dict) and (option := options.get(key)) is not None:
                    setting = self._setting((*keys, key), option, value)
                    found[str(option.name)] = setting
                elif runs_alone:
                    self._check_name(command, (*keys, key), is_table=isinstance(value, dict))
        return found

    def _setting(self, keys: tuple[str, ...], option: click.Option, value: object) -> Setting:
        try:
            typed = to_typed(option, value)
        except TypeError as error:
            raise self.error(keys, f"`{keys[-1]}` takes {error}") from error
        try:
            check_value(option, typed)
        except ValueError as error:
            raise self.error(keys, f"`{keys[-1]}`: {error}") from error
        return Setting(keys, option, typed)

    def _check_name(self, command: click.Command, keys: tuple[str, ...], *, is_table: bool) -> None:
        """Raise UsageError if no command has a table, or an option, of this name."""
        name = keys[-1]
        tables = table_names(command)
        if is_table and name in tables:
            return
        if not is_table and any(name in long_options(below) for _, below in walk(command)):
            return
        options = {known for _, below in walk(command) for known in long_options(below)}
        near = difflib.get_close_matches(name, sorted({*tables, *options}), n=1)
        where = f"[{'.'.join(keys[:-1])}]" if keys[:-1] else "the options of all commands"
        what = "table" if is_table else "key"
        guess = f"did you mean `{near[0]}`?" if near else None
        raise self.error(keys, f"unknown {what} `{display_name(name)}` in {where}", hint=guess)

    def error(self, keys: tuple[str, ...], message: str, hint: str | None = None) -> UsageError:
        """Return an error about the key ``keys``, with its file and line."""
        line = self.line(keys)
        where = f", line {line}" if line is not None else ""
        return UsageError(f"{display_path(self.path)}{where}: {message}", hint=hint)

    def line(self, keys: tuple[str, ...]) -> int | None:
        """Return the line, from 1, at which a key is complete: the first lines that hold it."""
        lines = self.text.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if keys[-1] in line and _holds("".join(lines[:number]), keys):
                return number
        return None


def _holds(text: str, keys: tuple[str, ...]) -> bool:
    try:
        found: Any = tomllib.loads(text)
        for key in keys:
            found = found[key]
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
    return True


class FileDefaults(dict[str, Any]):
    """click's ``default_map`` of a command: parameter → value; ``get`` makes those of subcommands.

    A subcommand is imported, and its tables are checked, only when it runs.
    """

    def __init__(self, config: ConfigFile, chain: Chain) -> None:
        settings = config.settings(chain) if len(chain) > 1 else {}
        super().__init__({name: setting.value for name, setting in settings.items()})
        self._config = config
        self._chain = chain

    def get(self, key: str, default: Any = None) -> Any:
        command = subcommand(self._chain[-1][1], key)
        if command is None:
            return default
        return FileDefaults(self._config, (*self._chain, (str(command.name), command)))


def subcommand(command: click.Command, name: str) -> click.Command | None:
    """Return a command of a group; None for another name, and for what is no group."""
    if not isinstance(command, click.Group):
        return None
    return command.get_command(click.Context(command), name)


def table_names(command: click.Command) -> list[str]:
    """Return the names of the tables that may stand in the table of ``command``."""
    if not isinstance(command, click.Group):
        return []
    names = command.list_commands(click.Context(command))
    return [name for name in names if name not in WITHOUT_TABLE]


def walk(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield ``command`` and all below it, with their names, importing each when it is reached."""
    yield names, command
    for name in table_names(command):
        if (below := subcommand(command, name)) is not None:
            yield from walk(below, *names, name)


def long_options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by their long names, without dashes."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and not option.is_eager
        for name in option.opts
        if name.startswith("--")
    }


def to_typed(option: click.Option, value: object) -> bool | str | list[str]:
    """Convert a TOML value to the form in which click gets a typed one.

    Raises TypeError, with a message for the user, for a value of another type.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise TypeError(f"true or false, not {_shown(value)}")
        return value
    if option.multiple:
        values = value if isinstance(value, list) else [value]
        return [_to_text(option, one) for one in values]
    return _to_text(option, value)


def _to_text(option: click.Option, value: object) -> str:
    kind = option.type
    accepts: tuple[type, ...]
    if isinstance(kind, IntParamType):
        accepts, wanted = (int,), "a whole number"
    elif isinstance(kind, FloatParamType):
        accepts, wanted = (int, float), "a number"
    elif kind.name in ("time", "length", "size"):
        accepts, wanted = (str, int, float), f"a {kind.name}"
    elif kind.name == "when":
        accepts, wanted = (str, date), "a date or an age"
    else:
        accepts, wanted = (str,), "a text in quotes"
    if not isinstance(value, accepts) or isinstance(value, bool):
        raise TypeError(f"{wanted}, not {_shown(value)}")
    try:
        text = str(value)
    except ValueError as error:  # thousands of digits
        raise TypeError(f"{wanted}, not such a long one") from error
    return os.path.expanduser(text) if kind.name in _PATHS else text


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list):
        return "a table" if isinstance(value, Mapping) else "a list"
    if isinstance(value, str):
        return f'the text "{display_name(value)}"'
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number beyond 64 bits"
    return f"`{display_name(str(value))}`"


def check_value(option: click.Option, typed: bool | str | list[str]) -> Any:
    """Convert a value as click does. Raises ValueError with click's message."""
    context = click.Context(click.Command("config"))
    try:
        return option.type_cast_value(context, typed)
    except click.BadParameter as error:
        raise ValueError(error.message.rstrip(".")) from error
