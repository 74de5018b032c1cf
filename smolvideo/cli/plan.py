"""``smolvideo plan`` and ``ask --dry-run``: predicted cost of an answer, without weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

import click

from smolvideo.cli.ask_arguments import AskArguments, split_arguments
from smolvideo.cli.conversations import ConversationFlags, read_settings, with_model
from smolvideo.cli.flags import Flags, SectionCommand, argument, flag, takes
from smolvideo.cli.model_choice import choose_for_plan
from smolvideo.cli.options import DownloadFlags, ListFlags, allows_outside, read_download
from smolvideo.cli.shell_completion import complete_files
from smolvideo.cli.summary_options import QuietFlags
from smolvideo.conversation import Settings
from smolvideo.cost import RateRequest, Rates, rates_for
from smolvideo.cost.choose import all_drawn, free_memory_bytes
from smolvideo.engines import EngineSpec
from smolvideo.errors import EXIT_SOME_FAILED, SmolVideoError, SourceError, UsageError
from smolvideo.pipeline import CostPlan, PlannedModel, open_for_plan, plan_prompt, predict_plan
from smolvideo.pipeline.subtitles import subtitles_for_sampling
from smolvideo.progress import OnProgress, Progress
from smolvideo.prompt import PLACEHOLDER_QUESTION
from smolvideo.readers import prestart_process
from smolvideo.records import json_line
from smolvideo.show.console import Output, open_screen
from smolvideo.show.plan import (
    batch_seconds,
    cost_plan_json,
    show_batch_costs,
    show_cost_plan,
)
from smolvideo.show.progress_bar import StageProgress
from smolvideo.source import (
    DownloadOptions,
    Named,
    VideoSource,
    display_url,
    find_cached,
    is_url,
    resolve_source,
)

_BUDGETS = (8, 16, 32)
"""Smaller numbers of frames whose cost is shown, too."""


class PlanQuestionFlags(Flags, section="Question"):
    """Sources and question."""

    words: tuple[str, ...] = argument(
        nargs=-1, metavar="SOURCE... [QUESTION]", shell_complete=complete_files
    )
    question: str | None = flag(
        "-q",
        metavar="TEXT",
        show_default="the last argument, if it is no source",
        help="The question; every positional argument is then a source.",
    )


class PlanListFlags(ListFlags, section="Question"):
    """Sources from a file, next to the question in the help."""


class PlanOutputFlags(Flags, section="Output"):
    """The form of the plan."""

    as_json: bool = flag("--json", help="One JSON object instead of the tables.")


class PlanFlags(
    PlanQuestionFlags,
    PlanListFlags,
    ConversationFlags,
    DownloadFlags,
    PlanOutputFlags,
    QuietFlags,
):
    """All options of the command: those of ``ask`` that cost anything, and those of its answer."""


@click.command(cls=SectionCommand)
@takes(PlanFlags)
def plan(given: PlanFlags) -> int:
    """Predict seconds and memory of an answer.

    Frames, tokens, peak memory, and the seconds of each stage on this machine: for the model, with
    fewer frames, and for the published models. With a QUESTION the sources form one prompt, as in
    `ask`; without one each is planned as its own prompt. Nothing is downloaded, and no weights are
    read. The rates of this machine are measured once and stored.

    \b
    smolvideo plan party.mp4 "Who blows out the candles?"
    smolvideo plan --model smolvlm2-2.2b --quantize int8 party.mp4
    smolvideo plan holiday/
    """
    typed = split_arguments(
        given.words,
        question=given.question,
        source_list=given.source_list,
        allow_outside=allows_outside(given),
        needs_question=False,
    )
    request = PlanRequest(
        typed,
        read_settings(given),
        read_download(given, typed.sources, offline=given.offline),
        given.subtitles,
        given.as_json,
    )
    return run_plan(request, open_screen(quiet=given.quiet, verbose=given.verbose))


@dataclass(frozen=True)
class PlanRequest:
    """What to plan: sources and question as typed, and the settings of the answer."""

    typed: AskArguments
    settings: Settings
    download: DownloadOptions
    subtitles: str | None
    as_json: bool


def run_plan(request: PlanRequest, screen: Output) -> int:
    """Plan, print, and return the exit code. Raises as ``prepare`` does, and UsageError for an
    engine whose cost is not known."""
    if request.settings.engine not in ("auto", "native"):
        raise UsageError(
            f"the cost of the engine `{request.settings.engine}` is not known: only of `native`",
            hint="leave `--engine` out",
        )
    prestart_process()
    with StageProgress(screen) as stages:
        spec, notices = choose_for_plan(
            request.settings.spec,
            drawn=lambda: _all_drawn(request),
            frames=request.settings.sampling.max_frames,
            on_progress=stages.on_progress,
        )
        request = replace(request, settings=with_model(request.settings, spec))
        planner = _Planner(request, notices, stages.on_progress)
        plans = planner.plan_all()
    if len(plans) == 1:
        _, only = plans[0]
        if isinstance(only, SmolVideoError):
            raise only
        _show_one(screen, request, planner.model, only)
        return 0
    _show_batch(screen, plans, as_json=request.as_json)
    if not request.as_json:
        screen.notes(notices or (f"planned for `{planner.model.cost.name}`",))
    failed = any(isinstance(one, SmolVideoError) for _, one in plans)
    return EXIT_SOME_FAILED if failed else 0


_Planned = tuple[str, CostPlan | SmolVideoError]
"""The name of a source, and its plan or error."""


class _Planner:
    """Plans prompts for one model with the options of a command."""

    def __init__(
        self, request: PlanRequest, notices: Sequence[str], on_progress: OnProgress
    ) -> None:
        self._request, self._notices, self._on_progress = request, notices, on_progress
        self._download = replace(request.download, offline=True)
        self._rates = cache(_rates(request.settings.spec, on_progress))
        self.model = open_for_plan(request.settings.spec)

    def plan_all(self) -> list[_Planned]:
        """Plan the question about all sources; without a question each source on its own."""
        typed = self._request.typed
        if typed.question:
            sources = [found for one in typed.sources for found in _resolve(one, self._download)]
            return [(sources[0].name, self._plan(sources))]
        return [planned for one in typed.sources for planned in self._plan_each(one)]

    def _plan_each(self, typed: Named) -> Iterator[_Planned]:
        """Plan what was typed: a file, or every file of a folder."""
        try:
            sources = _resolve(typed, self._download)
        except SmolVideoError as error:
            yield str(typed), error
            return
        for source in sources:
            try:
                yield source.name, self._plan([source])
            except SmolVideoError as error:
                yield source.name, error

    def _plan(self, sources: Sequence[VideoSource]) -> CostPlan:
        settings, question = self._request.settings, self._request.typed.question
        heard = [*self._notices]
        subtitles = None
        if self._request.subtitles is not None:
            subtitles = subtitles_for_sampling(
                self._request.subtitles,
                list(sources),
                settings.sampling,
                reader=settings.reader,
                on_notice=heard.append,
            )
        prompt = plan_prompt(
            self.model,
            sources,
            question or PLACEHOLDER_QUESTION,
            sampling=settings.sampling,
            prompt_options=settings.prompt_options,
            generation=settings.generation,
            reader=settings.reader,
            subtitles=subtitles,
            budgets=_BUDGETS,
            on_progress=self._on_progress,
        )
        prompt = replace(prompt, notices=(*heard, *prompt.notices))
        return predict_plan(self.model, prompt, question, lambda cost: self._rates(cost.is_tiny))


def _rates(spec: EngineSpec, on_progress: OnProgress) -> Callable[[bool], Rates]:
    """Return the function from whether a model is tiny to the rates of this machine."""

    def rates(tiny: bool) -> Rates:
        return rates_for(
            RateRequest(spec.device, spec.dtype, tiny, spec.arithmetic),
            on_measure=lambda: on_progress(Progress("measure")),
        )

    return rates


def _all_drawn(request: PlanRequest) -> bool:
    """Whether all sources are drawn videos; one that cannot be opened is reported later."""
    download = replace(request.download, offline=True)
    sources: list[VideoSource] = []
    for one in request.typed.sources:
        with suppress(SmolVideoError):
            sources += _resolve(one, download)
    return all_drawn(sources, reader=request.settings.reader)


def _resolve(typed: Named, download: DownloadOptions) -> list[VideoSource]:
    """Resolve a source without the network. Raises SourceError for a URL that is not here."""
    text = str(typed)
    if is_url(text) and find_cached(text.strip(), max_height=download.max_height) is None:
        raise SourceError(
            f"{display_url(text)} is not downloaded, so its length is not known",
            hint="`smolvideo frames URL` downloads it and shows its frames; then plan again",
        )
    return resolve_source(typed, download=download)


def _show_one(screen: Output, request: PlanRequest, model: PlannedModel, plan: CostPlan) -> None:
    settings = request.settings
    if request.as_json:
        screen.write(json_line(cost_plan_json(plan)) + "\n")
    else:
        show_cost_plan(
            screen,
            plan,
            context_tokens=model.context_tokens,
            available_bytes=free_memory_bytes(settings.device, settings.dtype),
        )
    screen.notes(plan.prompt.notices)


def _show_batch(screen: Output, plans: Sequence[_Planned], *, as_json: bool) -> None:
    known = [one.chosen for _, one in plans if isinstance(one, CostPlan)]
    if as_json:
        items = [
            {"name": name, "error": str(one)}
            if isinstance(one, SmolVideoError)
            else {"name": name, **cost_plan_json(one)}
            for name, one in plans
        ]
        total = {
            "videos": len(known),
            "frames": sum(one.prompt.frames for one in known),
            "tokens": sum(one.prompt.tokens for one in known),
            "seconds": round(batch_seconds(known), 4),
            "memory_bytes": max((one.memory_bytes for one in known), default=0),
        }
        screen.write(json_line({"items": items, "total": total}) + "\n")
        return
    show_batch_costs(
        screen,
        [(name, one if isinstance(one, CostPlan) else str(one)) for name, one in plans],
    )
