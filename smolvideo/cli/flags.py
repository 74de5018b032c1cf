"""Frozen objects of options: a class declares flags as its fields, and click fills it.

    class GenerationFlags(Flags, section="Answer"):
        seed: int | None = flag(type=IntegerType(), help="Where drawing begins.")

The flag of a field has its name (``max_frames``: ``--max-frames``). A command's class inherits from
the groups that it has, and its help lists them in that order.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import wraps
from inspect import get_annotations
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import click
from click.core import ParameterSource

from smolvideo.cli.main import debug_option
from smolvideo.cli.params import SectionOption

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
