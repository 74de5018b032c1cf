"""The model of a command: the choice of ``--model auto``, and loading in the background.

Where no model is on this machine, nothing is downloaded unasked: on a terminal one question is
asked, whose answer is remembered in the configuration file; elsewhere there is an error with the
command to type.
"""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from rich.text import Text

from smolvideo.cli.model_options import ModelFlags, read_engine_spec
from smolvideo.cost.choose import Candidate, ModelChoice, NoModelError, choose_model
from smolvideo.engines import Engine, EngineSpec
from smolvideo.errors import SmolVideoError
from smolvideo.formatting import format_bytes, format_seconds
from smolvideo.models import find_model
from smolvideo.models.hub import is_offline
from smolvideo.models.registry import AUTO
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.sanitize import display_path
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import StageProgress

_ONCE = "nano"


def choose_engine(
    given: ModelFlags,
    screen: Output,
    *,
    drawn: Callable[[], bool],
    frames: int,
    stages: StageProgress | None = None,
    asks: bool = True,
) -> EngineSpec:
    """Return the model and engine options, ``auto`` replaced by the name of a checkpoint.

    ``drawn`` is called for ``auto`` alone: whether all sources are drawn videos. ``asks``: whether
    a terminal is asked what to download. Raises NoModelError if there is no model and none may be
    downloaded.
    """
    spec = read_engine_spec(given)
    if spec.base_url is not None:
        return replace(spec, model=spec.checkpoint().name)
    if spec.model != AUTO:
        return spec
    is_drawn = drawn()
    try:
        choice = _choose(spec, drawn=is_drawn, frames=frames, stages=stages)
    except NoModelError as error:
        if not (asks or given.yes):
            raise
        choice = _download(error, given, spec, screen, frames=frames, stages=stages)
    if screen.verbose:
        screen.err.print(Text(f"model {choice.model}: {choice.reason}", "dim"), soft_wrap=True)
    return replace(spec, model=choice.model, model_reason=choice.reason)


def _choose(
    spec: EngineSpec,
    *,
    drawn: bool,
    frames: int,
    stages: StageProgress | None,
    measure: bool = False,
) -> ModelChoice:
    return choose_model(
        drawn=drawn,
        frames=frames,
        device=spec.device,
        dtype=spec.dtype,
        quantize=spec.quantize,
        measure=measure,
        on_progress=no_progress if stages is None else stages.on_progress,
    )


def choose_for_plan(
    spec: EngineSpec, *, drawn: Callable[[], bool], frames: int, on_progress: OnProgress
) -> tuple[EngineSpec, tuple[str, ...]]:
    """Return ``spec`` with the model of ``auto``, and notices: where none is here, it is the one
    that would be proposed, and where none fits the memory the one that needs least."""
    if spec.model != AUTO:
        return spec, ()
    notices: tuple[str, ...] = ()
    try:
        choice = choose_model(
            drawn=drawn(),
            frames=frames,
            device=spec.device,
            dtype=spec.dtype,
            quantize=spec.quantize,
            on_progress=on_progress,
        )
    except NoModelError as error:
        choice = ModelChoice(error.nearest.name, f"planned for, although {error}")
        notices = (f"{error}: this is a plan for `{choice.model}`; {error.hint}",)
    return replace(spec, model=choice.model, model_reason=choice.reason), notices


def _download(
    error: NoModelError,
    given: ModelFlags,
    spec: EngineSpec,
    screen: Output,
    *,
    frames: int,
    stages: StageProgress | None,
) -> ModelChoice:
    """Choose what to download by ``--yes`` or a question. Raises ``error`` where neither may be."""
    if not error.offers or spec.offline or is_offline():
        raise error
    if given.yes:
        return ModelChoice(error.offers[0].name, "`--yes`: none was on this machine")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise error
    try:  # again, with this machine measured: what to propose depends on its speed
        return _choose(spec, drawn=False, frames=frames, stages=stages, measure=True)
    except NoModelError as measured:
        error = measured
    if stages is not None:
        with stages.paused():
            return _ask(error, screen)
    return _ask(error, screen)


def _ask(error: NoModelError, screen: Output) -> ModelChoice:
    """Ask which model to download, and remember the answer; a refusal raises ``error``."""
    names = {_short(one.name): one.name for one in error.offers}
    screen.err.print(Text(f"{error}:"), soft_wrap=True)
    for one in error.offers:
        screen.err.print(Text(_in_words(one)), soft_wrap=True)
    screen.err.print(Text("  nano: no download · knows drawn videos only"))
    best = error.offers[0]
    others = "/".join([*(name for name in names if names[name] != best.name), _ONCE])
    size = format_bytes(find_model(best.name).download_bytes or 0)
    while True:
        screen.err.print(f"Download {best.name}, {size}? [Y/n/{others}] ", end="", markup=False)
        line = sys.stdin.readline()
        typed = line.strip().lower()
        if not line or typed in ("n", "no"):
            raise error
        if typed == _ONCE:
            return ModelChoice(_ONCE, "chosen when asked")
        name = best.name if typed in ("", "y", "yes") else names.get(typed, typed)
        if name in names.values():
            _remember(name, screen)
            return ModelChoice(name, "chosen when asked")


def _remember(name: str, screen: Output) -> None:
    from smolvideo.cli.config import save_setting

    try:
        path = save_setting("model", [name])
    except SmolVideoError as error:  # the answer is worth more than the memory of it
        screen.notice(f"the choice is not remembered: {error}")
        return
    screen.notice(
        f"`model` is set in {display_path(path)}: `smolvideo config unset model` undoes it"
    )


def _short(name: str) -> str:
    return name.removeprefix("smolvlm2-")


def _in_words(one: Candidate) -> str:
    parts = [
        f"  {_short(one.name)}: {format_bytes(find_model(one.name).download_bytes or 0)}",
        f"{format_bytes(one.memory_bytes)} memory",
    ]
    if one.seconds is not None:
        parts.append(f"first token {format_seconds(one.seconds)}")
    return " · ".join(parts)


_LOOK_AGAIN_SECONDS = 0.2
"""Timeout of each wait: Windows delivers Ctrl-C only between two of them."""


class BackgroundEngine:
    """An engine that loads in a background thread; ``result`` waits for it.

    The thread is a daemon, so that Ctrl-C does not wait for weights.
    """

    def __init__(self, load: Callable[[], Engine]) -> None:
        self._load = load
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._error: Exception | None = None

    def begin(self) -> None:
        """Start loading, unless it has started already."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="load engine", daemon=True)
            self._thread.start()

    def start_on_first_frame(self, on_progress: OnProgress) -> OnProgress:
        """Wrap ``on_progress`` so that loading starts when the first frame is decoded.

        By then the sources are downloaded, the prompt fits, and the video is readable, so weights
        are not downloaded for a question that fails.
        """

        def report(progress: Progress) -> None:
            on_progress(progress)
            if progress.stage == "decode" and progress.done >= 1:
                self.begin()

        return report

    def result(self) -> Engine:
        """Wait for the engine. Raises the error of loading."""
        self.begin()
        assert self._thread is not None
        while self._thread.is_alive():
            self._thread.join(_LOOK_AGAIN_SECONDS)
        if self._error is not None:
            raise self._error
        assert self._engine is not None
        return self._engine

    def _run(self) -> None:
        try:
            self._engine = self._load()
        except Exception as error:  # re-raised by result() on the caller's thread
            self._error = error
