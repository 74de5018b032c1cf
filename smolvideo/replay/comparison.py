"""Differences between a record and its replay, in the order of the path of a video."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from smolvideo.sanitize import display_name

ReplayStep = Literal[
    "file",
    "reader",
    "frames",
    "prompt",
    "model",
    "weights",
    "versions",
    "arithmetic",
    "answer",
    "evidence",
]
"""What is compared, in order: ``file`` the content of the sources, ``reader`` what decoded them,
``frames`` their times and pixels, ``prompt`` the token ids, ``model`` name, revision and adapter,
``weights`` their bytes, ``versions`` of the packages, ``arithmetic`` engine, device and number
formats, ``answer`` the text, with the first token that differs, and ``evidence`` what ``--why``
and ``--check`` found, in records that have it."""

STEPS: tuple[ReplayStep, ...] = get_args(ReplayStep)

_MAX_SHOWN = 60


@dataclass(frozen=True)
class Difference:
    """One difference: what the record says, and what the replay found; ``text`` in words."""

    step: ReplayStep
    text: str
    recorded: str | None = None
    found: str | None = None


@dataclass(frozen=True)
class ReplayOptions:
    """How records are replayed; None as recorded.

    ``folder`` is where sources are looked for by their names, if they are not at their paths.
    """

    reader: str | None = None
    model: str | None = None
    engine: str | None = None
    device: str | None = None
    dtype: str | None = None
    folder: Path | None = None
    offline: bool = False


@dataclass(frozen=True)
class ReplayResult:
    """What the replay of one record found.

    ``differences`` are in the order of ``STEPS``; ``compared`` are the steps that were compared:
    after a difference in file, frames or prompt there is no answer to compare. ``skipped`` is why
    a record cannot be replayed at all.
    """

    name: str
    line: int
    compared: tuple[ReplayStep, ...] = ()
    differences: tuple[Difference, ...] = ()
    skipped: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether all was compared, and nothing differs."""
        return self.skipped is None and not self.differences

    @property
    def first(self) -> Difference | None:
        """The first difference."""
        return self.differences[0] if self.differences else None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``json.dumps`` takes."""
        return {
            "record": "smolvideo.replay/1",
            "name": self.name,
            "line": self.line,
            "equal": self.is_equal,
            "compared": [*self.compared],
            "differences": [asdict(one) for one in self.differences],
            "skipped": self.skipped,
            "notices": [*self.notices],
        }


@dataclass
class Comparison:
    """Collects what was compared, and what differs."""

    compared: list[ReplayStep] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def values(
        self, step: ReplayStep, recorded: Mapping[str, Any], found: Mapping[str, Any]
    ) -> bool:
        """Compare named values, those that the record has; return whether they are equal."""
        self._begin(step)
        names = [
            name
            for name, value in recorded.items()
            if value is not None and value != found.get(name)
        ]
        for name in names:
            before, now = _shown(recorded[name]), _shown(found.get(name))
            text = f"{name}: {before} in the record, {now} now"
            self.differences.append(Difference(step, text, before, now))
        return not names

    def differs(self, step: ReplayStep, text: str, recorded: Any = None, found: Any = None) -> None:
        """Add a difference in words."""
        self._begin(step)
        shown = (None if one is None else _shown(one) for one in (recorded, found))
        self.differences.append(Difference(step, text, *shown))

    def same(self, step: ReplayStep) -> None:
        """Note that ``step`` was compared and is equal."""
        self._begin(step)

    def result(self, name: str, line: int, notices: Sequence[str] = ()) -> ReplayResult:
        """Return what was found for the record ``name``."""
        order = {step: place for place, step in enumerate(STEPS)}
        return ReplayResult(
            display_name(name),
            line,
            tuple(sorted(self.compared, key=order.__getitem__)),
            tuple(sorted(self.differences, key=lambda one: order[one.step])),
            notices=tuple(notices),
        )

    def _begin(self, step: ReplayStep) -> None:
        if step not in self.compared:
            self.compared.append(step)


def _shown(value: Any) -> str:
    return "none" if value is None else display_name(str(value), max_length=_MAX_SHOWN)
