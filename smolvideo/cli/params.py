"""click classes: help with sections, and parameter types."""

import math
import os
from pathlib import Path
from typing import Any

import click

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


class SectionCommand(click.Command):
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
