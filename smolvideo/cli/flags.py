"""Options of commands: a frozen class declares flags as its fields, and click fills it.

    class GenerationFlags(Flags, section="Answer"):
        seed: int | None = flag(type=IntegerType(), help="Where drawing begins.")

The flag of a field has its name (``max_frames``: ``--max-frames``). A command's class inherits from
the groups that it has, and its help lists them in that order.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from inspect import get_annotations
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import click
from click.core import ParameterSource

from smolvideo.cli.main import HELP_NAMES, debug_option
from smolvideo.cli.shell_completion import BY_METAVAR
from smolvideo.errors import UsageError
from smolvideo.file_names import existing_path
from smolvideo.sampling import RelativeTime, parse_time
from smolvideo.sanitize import display_path

_OTHER = "Other"


class SectionOption(click.Option):
    """An option with a section heading and a visible default."""

    def __init__(self, *args: Any, section: str = _OTHER, **attributes: Any) -> None:
        attributes.setdefault("show_default", True)
        attributes.setdefault("shell_complete", BY_METAVAR.get(attributes.get("metavar", "")))
        super().__init__(*args, **attributes)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Show a default given in words as it is; click would put it in parentheses."""
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        if extra.get("range") == "x<=None":  # click's text for an unbounded range
            del extra["range"]
        return extra


class PlainCommand(click.Command):
    """A command with ``-h`` and ``--help`` in every context: click keeps the help option of the
    first, which need not be of the program."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        return list(HELP_NAMES)


class PlainGroup(PlainCommand, click.Group):
    """A group of such commands."""

    command_class = PlainCommand


class SectionCommand(PlainCommand):
    """A command whose help lists its options by section, in order of declaration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            for word in args:
                if word.startswith("-") and os.path.lexists(word):
                    raise UsageError(
                        f"the file {display_path(word)} reads like an option",
                        hint=f"write {display_path('./' + word)}",
                    ) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                section = getattr(parameter, "section", _OTHER)
                sections.setdefault(section, []).append(record)
        sections[_OTHER] = sections.pop(_OTHER, [])
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


class SectionGroup(SectionCommand, click.Group):
    """A group of commands with its own options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


class IntegerType(click.IntRange):
    """An integer such as ``50``; error messages use the name."""

    name = "whole number"


class FloatType(click.FloatRange):
    """A finite float such as ``0.7``; click's ranges would accept infinity and NaN."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class FilePath(click.ParamType):  # type: ignore[type-arg]
    """A path, in the Unicode form (NFC or NFD) in which it exists on disk.

    An empty name, as from an unset shell variable, is an error.
    """

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("the name is empty", param, ctx)
        return existing_path(Path(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        return click.Path().shell_complete(ctx, param, incomplete)


class FolderPath(FilePath):
    """A folder that exists and can be read; ``~`` is the home folder also where no shell saw it."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        folder = super().convert(Path(value).expanduser() if str(value) else value, param, ctx)
        try:
            with os.scandir(folder):
                return folder
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            shown = display_path(folder)
            self.fail(f"the folder {shown} cannot be read: {reason}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[Any]:
        return click.Path(file_okay=False).shell_complete(ctx, param, incomplete)


class TimeType(click.ParamType):  # type: ignore[type-arg]
    """A time in the video: ``90``, ``1:30``, ``0:01:30.5`` or ``50%``."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | RelativeTime:
        if not isinstance(value, str):
            assert isinstance(value, float | RelativeTime)
            return value
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes: ``500M``, ``1.5G``, ``2GiB``, ``1000000``."""

    name = "size"
    _UNITS = ("", "k", "m", "g", "t")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        number = text.rstrip("kmgtib ")
        unit = text[len(number) :].strip()
        binary = unit.endswith(("ib", "i"))
        letter = unit.removesuffix("b").removesuffix("i")
        try:
            count = float(number) * (1024 if binary else 1000) ** self._UNITS.index(letter)
        except (ValueError, OverflowError):
            count = -1.0
        if not 1 <= count < 2**63:
            self.fail(f"`{value}` is no size: write bytes, or 500M, 1.5G, 2GiB", param, ctx)
        return int(count)


FIELD_BY_FLAG = {"start": "start_seconds", "end": "end_seconds"}
"""Flags whose field name in an option dataclass has a unit suffix."""

_EXPLICIT = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def default_of(options: type, name: str) -> Any:
    """Return the default of a dataclass field, the single source of an option's default."""
    found = next(known for known in fields(options) if known.name == name)
    return None if found.default is MISSING else found.default


def flag(
    *names: str,
    default: Any = None,
    default_from: type | None = None,
    excludes: tuple[str, ...] = (),
    **more: Any,
) -> Any:
    """Declare an option: its ``names`` beyond that of the field, and click's attributes.

    ``default_from`` is the dataclass whose field of the same name has the default. ``excludes`` are
    fields that contradict the option: what the configuration file says of them gives way to it.
    """
    declared = {
        "names": names,
        "default_from": default_from,
        "excludes": excludes,
        "attributes": more,
    }
    return field(default=default, metadata=declared)


def argument(**attributes: Any) -> Any:
    """Declare a positional argument with click's attributes."""
    return field(default=None, metadata={"argument": attributes})


@dataclass(frozen=True, kw_only=True)
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(flag, argument))
class Flags:
    """Base of all classes of options; each subclass is a frozen dataclass.

    ``section`` is the heading in the help, of a class and of the classes it inherits from.
    """

    section: ClassVar[str | None] = None
    origins: Mapping[str, ParameterSource] = field(default_factory=dict, repr=False)
    """Field name → where its value comes from."""

    def __init_subclass__(cls, *, section: str | None = None) -> None:
        cls.section = section
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def read(cls, ctx: click.Context) -> Self:
        """Fill an object from the parsed parameters of a command."""
        parts = [part for part in fields(cls) if part.name in ctx.params]
        sources = {part.name: ctx.get_parameter_source(part.name) for part in parts}
        values = {part.name: ctx.params[part.name] for part in parts}
        typed = [part for part in parts if sources[part.name] in _EXPLICIT]
        for other in {name for part in typed for name in part.metadata.get("excludes", ())}:
            if sources.get(other) is ParameterSource.DEFAULT_MAP:
                values[other], sources[other] = _default(ctx, other), ParameterSource.DEFAULT
        origins = {name: source for name, source in sources.items() if source is not None}
        return cls(**values, origins=origins)

    def is_explicit(self, name: str) -> bool:
        """Whether the value is from the command line or the environment.

        What the configuration file says is a preference, like a default: it is reduced, or left
        out, where it does not apply.
        """
        return self._origin(name) in _EXPLICIT

    def is_default(self, name: str) -> bool:
        """Whether neither the user nor the configuration file has chosen the value."""
        return self._origin(name) in (None, ParameterSource.DEFAULT)

    def is_on_command_line(self, name: str) -> bool:
        """Whether the value is from the command line, not from the environment or a default."""
        return self._origin(name) is ParameterSource.COMMANDLINE

    def _origin(self, name: str) -> ParameterSource | None:
        assert hasattr(self, name), name
        return self.origins.get(name)

    def first_explicit(self, *names: str) -> str | None:
        """Return the flag of the first field that is explicit: ``--top-p``."""
        return next((to_flag(name) for name in names if self.is_explicit(name)), None)

    def explicit_values(self, *names: str) -> dict[str, Any]:
        """Return the values of those fields that are explicit."""
        return {name: getattr(self, name) for name in names if self.is_explicit(name)}


def is_typed(ctx: click.Context, name: str) -> bool:
    """Whether a parameter is from the command line or the environment."""
    return ctx.get_parameter_source(name) in _EXPLICIT


def _default(ctx: click.Context, name: str) -> Any:
    """Return the built-in default of a parameter."""
    (found,) = [part for part in ctx.command.params if part.name == name]
    return found.type_cast_value(ctx, found.default)


def to_flag(name: str) -> str:
    """Return the flag of a field: ``--top-p`` for ``top_p``."""
    return "--" + name.replace("_", "-")


Kind = TypeVar("Kind", bound=Flags)
Decorator = Callable[[Callable[[Kind], int | None]], Callable[..., int | None]]


def takes(kind: type[Kind], **changed: Mapping[str, Any] | None) -> Decorator[Kind]:
    """Decorate the function of a command, which gets a ``kind`` as its only argument.

    ``changed`` are attributes of single options, by field, that differ in this command; None leaves
    the option out.
    """

    def decorate(function: Callable[[Kind], int | None]) -> Callable[..., int | None]:
        @click.pass_context
        @wraps(function)
        def callback(ctx: click.Context, /, **_: Any) -> int | None:
            return function(kind.read(ctx))

        command: Callable[..., Any] = debug_option(callback)
        for declared, section in reversed(list(_declared(kind, None))):
            change = changed.get(declared.name, {})
            if change is not None:
                command = _parameter(declared, section, change)(command)
        return command

    return decorate


def _declared(kind: type, section: str | None) -> Iterator[tuple[Field[Any], str | None]]:
    """Yield the fields of the bases of a class, then its own, each with its section."""
    if not (issubclass(kind, Flags) and kind is not Flags):
        return
    section = section or kind.section
    for base in kind.__bases__:
        yield from _declared(base, section)
    known = {part.name: part for part in fields(kind)}
    for name in get_annotations(kind):
        if known[name].metadata:
            yield known[name], section


def _parameter(
    declared: Field[Any], section: str | None, change: Mapping[str, Any]
) -> Callable[[Any], Any]:
    name, metadata = declared.name, declared.metadata
    if "argument" in metadata:
        return click.argument(name, **{**metadata["argument"], **change})
    names: tuple[str, ...] = metadata["names"]
    if not any(one.startswith("--") for one in names):
        names = (to_flag(name), *names)
    attributes = {"default": declared.default, **metadata["attributes"], **change}
    if (owner := metadata["default_from"]) is not None:
        attributes["default"] = default_of(owner, FIELD_BY_FLAG.get(name, name))
    if declared.type is bool:
        attributes.update(is_flag=True, default=bool(attributes["default"]))
    if section is not None:
        attributes["section"] = section
    return click.option(name, *names, cls=SectionOption, **attributes)
