"""``smolvideo config``: show and change the defaults of options in the configuration file."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from smolvideo.cli.config_file import (
    MAX_BYTES,
    VARIABLE,
    Chain,
    ConfigFile,
    FileDefaults,
    Setting,
    check_value,
    config_path,
    long_options,
    subcommand,
    walk,
)
from smolvideo.cli.flags import PlainGroup
from smolvideo.cli.main import ALIASES, cli, debug_option
from smolvideo.cli.shell_completion import (
    complete_commands,
    complete_setting_values,
    complete_settings,
)
from smolvideo.errors import RecordError, UsageError
from smolvideo.files import make_folders, write_atomic
from smolvideo.records import json_line
from smolvideo.sanitize import display_name, display_path
from smolvideo.show.console import open_screen
from smolvideo.show.tables import show_table

_key_argument = click.argument("key", shell_complete=complete_settings)
_NUMBERS = {"whole number": int, "integer range": int, "number": float}


@click.group(cls=PlainGroup)
@debug_option
def config() -> None:
    """Show or change the defaults of options.

    They are in a file: a line for an option of all commands, tables for single commands. The
    command line overrides the environment, which overrides the file. A setting is a preference:
    where it cannot apply it is ignored, and too many frames are reduced to what fits.

    \b
    smolvideo config set model smolvlm2-500m
    smolvideo config set ask.max-frames 20
    smolvideo config show ask --origin
    """


@config.command("path")
@debug_option
def show_path() -> None:
    """Show the path of the file, which may not exist yet."""
    open_screen().write_paths([config_path()])


@config.command("show", context_settings={"ignore_unknown_options": True})
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[COMMAND]...",
    shell_complete=complete_commands,
)
@click.option("--origin", is_flag=True, help="Also show the origin of each value.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@debug_option
def show(words: tuple[str, ...], origin: bool, as_json: bool) -> None:
    """Show the settings of the file, or all options of a COMMAND.

    COMMAND may be followed by options, to see the resulting values: `show ask --max-frames 8`.
    """
    file = ConfigFile.read()
    rows = list(_effective(file, words) if words else _in_file(file))
    screen = open_screen()
    if as_json:
        screen.write(json_line(rows) + "\n")
        return
    columns = ["option", "value", *(["origin"] if origin else [])]
    cells = [[_in_words(row[name]) for name in columns] for row in rows]
    show_table(screen, columns, cells, right=frozenset())


def _in_words(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_file(file: ConfigFile) -> Iterator[dict[str, Any]]:
    """Yield the settings of the file after a check of all its tables; raises UsageError."""
    seen: dict[tuple[str, ...], Setting] = {}
    for names, _ in walk(cli):
        for setting in file.settings(_chain(names)).values():
            seen.setdefault(setting.keys, setting)
    for keys, setting in seen.items():
        yield {
            "option": ".".join(keys),
            "value": setting.value,
            "origin": f"{file.path}, line {file.line(keys)}",
        }


def _effective(file: ConfigFile, words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield every option of a command with its value and origin. Raises UsageError, click's too."""
    chain, rest = _split(words)
    command = chain[-1][1]
    settings = file.settings(chain)
    # Parsed by a command without arguments: no source is wanted.
    options = [option for option in command.params if not isinstance(option, click.Argument)]
    stripped = click.Command("config", params=options, context_settings={"allow_extra_args": True})
    name = " ".join(name for name, _ in chain[1:])
    context = stripped.make_context(name, list(rest), default_map=FileDefaults(file, chain))
    for name, option in _by_first_name(command):
        value = _to_plain(context.params[str(option.name)])
        source = context.get_parameter_source(str(option.name))
        origin = "default"
        if source is ParameterSource.COMMANDLINE:
            origin = "command line"
        elif source is ParameterSource.ENVIRONMENT:
            origin = f"environment, {option.envvar}"
        elif source is ParameterSource.DEFAULT_MAP:
            keys = settings[str(option.name)].keys
            origin = f"{file.path}, line {file.line(keys)}"
        elif value is None and isinstance(option.show_default, str):
            value = option.show_default
        yield {"option": name, "value": value, "origin": origin}


def _to_plain(value: Any) -> Any:
    """Return a parsed value as JSON has it."""
    if isinstance(value, list | tuple):
        return list(map(str, value))
    return value if isinstance(value, bool | int | float | None) else str(value)


def _by_first_name(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """Yield each option once, by the first of its long names."""
    seen: set[str | None] = set()
    for name, option in long_options(command).items():
        if option.name not in seen and option.expose_value:
            seen.add(option.name)
            yield name, option


def _split(words: Sequence[str]) -> tuple[Chain, Sequence[str]]:
    """Split a command line into the names of commands and the rest. Raises UsageError."""
    names: list[str] = []
    command: click.Command = cli
    for word in words:
        below = subcommand(command, ALIASES.get(word, word))
        if below is None:
            break
        names.append(str(below.name))
        command = below
    if not names:
        raise UsageError(f"no such command: `{words[0]}`", hint="see `smolvideo --help`")
    return _chain(names), words[len(names) :]


def _chain(names: Sequence[str]) -> Chain:
    """Return the commands of these names, the program first."""
    chain: list[tuple[str, click.Command]] = [("", cli)]
    for name in names:
        below = subcommand(chain[-1][1], name)
        assert below is not None
        chain.append((name, below))
    return tuple(chain)


@config.command("set")
@_key_argument
@click.argument(
    "values",
    nargs=-1,
    required=True,
    metavar="VALUE...",
    shell_complete=complete_setting_values,
)
@debug_option
def set_value(key: str, values: tuple[str, ...]) -> None:
    """Set a default: KEY is an option, or COMMAND.OPTION for one command alone.

    VALUE is checked like one of the command line; only repeatable options take several.
    """
    path = save_setting(key, values)
    open_screen().notice(f"`{key}` is set in {display_path(path)}")


@config.command("unset")
@_key_argument
@debug_option
def unset(key: str) -> None:
    """Remove a default from the file."""
    file = _read_for_change()
    keys = tuple(key.split("."))
    document = _document(file)
    table: Any = document
    for name in keys[:-1]:
        table = table.get(name, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict) or keys[-1] not in table:
        raise UsageError(
            f"`{key}` is not set in {display_path(file.path)}", hint="see `smolvideo config show`"
        )
    del table[keys[-1]]
    _write(file.path, document.as_string())
    open_screen().notice(f"`{key}` is no longer set in {display_path(file.path)}")


def save_setting(key: str, values: Sequence[str]) -> Path:
    """Write an option's default, checked by every command that has it; return the file.

    The rest of the file stays as it is, comments and all. Raises UsageError for an unknown key, for
    a value that does not fit and for a damaged file; RecordError if the file cannot be written.
    """
    import tomlkit

    file = _read_for_change()
    keys = tuple(key.split("."))
    names = tuple(ALIASES.get(name, name) for name in keys[:-1])
    parent = _split(names)[0][-1][1] if names else cli
    if names and len(_split(names)[0]) <= len(names):
        raise UsageError(f"no such command: `{' '.join(names)}`", hint="see `smolvideo --help`")
    options = [(n, o) for n, below in walk(parent) if (o := long_options(below).get(keys[-1]))]
    if not options:
        raise _unknown_option(parent, keys)
    value = _to_toml(options[0][1], values, key)
    for below, option in options:
        try:
            check_value(option, list(values) if option.multiple else values[-1])
        except ValueError as error:
            where = f" of `smolvideo {' '.join((*names, *below))}`" if below else ""
            raise UsageError(f"`{key}`{where}: {error}") from error
    document = _document(file)
    table: Any = document
    for name in names:
        if name not in table:
            table[name] = tomlkit.table()
        table = table[name]
        if not isinstance(table, dict):
            raise file.error(keys, f"`{name}` is a value there, not a table")
    table[keys[-1]] = value
    _write(file.path, document.as_string())
    return file.path


def _unknown_option(parent: click.Command, keys: tuple[str, ...]) -> UsageError:
    import difflib

    known = {name for _, below in walk(parent) for name in long_options(below)}
    near = difflib.get_close_matches(keys[-1], sorted(known), n=1)
    guess = ".".join((*keys[:-1], near[0])) if near else None
    return UsageError(
        f"no option `{display_name(keys[-1])}`",
        hint=f"did you mean `{guess}`?" if guess else "see `smolvideo config show COMMAND`",
    )


def _to_toml(option: click.Option, values: Sequence[str], key: str) -> Any:
    """Return the value in the type that the file wants. Raises UsageError."""
    if option.multiple:
        return list(values)
    if len(values) > 1:
        raise UsageError(f"`{key}` takes one value, not {len(values)}")
    try:
        if option.is_flag:
            return click.BOOL.convert(values[0], None, None)
        return _NUMBERS.get(option.type.name, str)(values[0])
    except (ValueError, click.BadParameter) as error:
        wanted = "true or false" if option.is_flag else f"a {option.type.name}"
        raise UsageError(f"`{key}` takes {wanted}, not `{display_name(values[0])}`") from error


def _read_for_change() -> ConfigFile:
    """Read the file, or nothing where it is to be created."""
    path = config_path()
    return ConfigFile.read() if os.path.lexists(path) else ConfigFile(path)


def _document(file: ConfigFile) -> Any:
    import tomlkit

    _ = file.content  # tomllib's message for damage has a line
    return tomlkit.parse(file.text)


def _write(path: Path, text: str) -> None:
    """Replace the file, or what a link in its place names. Raises UsageError, RecordError."""
    if len(text.encode("utf-8")) > MAX_BYTES:
        raise UsageError(f"{display_path(path)} would be larger than {MAX_BYTES // 1024} KiB")
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not target.is_file():
        raise UsageError(
            f"{display_path(path)} is no file to write to", hint=f"name one with {VARIABLE}"
        )
    try:
        make_folders(target.parent)
        mode = target.stat().st_mode if target.exists() else None
        write_atomic(target, text)
        if mode is not None:
            target.chmod(mode & 0o7777)
    except OSError as error:
        why = error.strerror or error
        raise RecordError(f"cannot write {display_path(path)}: {why}") from error
