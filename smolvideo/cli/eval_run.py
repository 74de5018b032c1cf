"""``smolvideo eval BENCHMARK`` and ``eval world``: start or resume a run."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.eval_options import NANO_MAX_NEW_TOKENS, EvalFlags, default_run_folder
from smolvideo.cli.flags import (
    FilePath,
    Flags,
    IntegerType,
    SectionCommand,
    default_of,
    flag,
    takes,
)
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.model_options import EngineFlags
from smolvideo.cli.options import DOWNLOAD_FIELDS, read_sampling
from smolvideo.cli.outputs import check_new_file, wrap_write_errors
from smolvideo.cli.ray_options import RayCommand, read_cluster
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import GenerationOptions
from smolvideo.errors import EXIT_SOME_FAILED, SmolVideoError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.datasets.table_files import fetch_benchmark
from smolvideo.evals.grouping import parse_groupings
from smolvideo.evals.item import Benchmark
from smolvideo.evals.loader import ClipLoader
from smolvideo.evals.protocol.prompts import default_prompt
from smolvideo.evals.ray_run import cluster_model
from smolvideo.evals.run import EvalModel, local_model, open_run_of, run_clips
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.scores import EvalReport, build_report
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.videos import (
    ARCHIVE_NAME,
    DownloadArchive,
    VideoDownloader,
    VideoFinder,
    VideoFolder,
)
from smolvideo.prompt import PromptOptions
from smolvideo.records import json_line, write_text_atomic
from smolvideo.show.console import Output, open_screen
from smolvideo.show.evals import BenchmarkProgress, show_report
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.training import ExamProgress, show_exam_report
from smolvideo.source import VideoSource
from smolvideo.train.exam import PARTS, ExamOptions

_DEFAULTS = EvalSettings()
_NANO_GENERATION = GenerationOptions(max_new_tokens=NANO_MAX_NEW_TOKENS)


def benchmark_command(name: str) -> click.Command:
    """Create the command of one benchmark; all share their options."""
    schema = SCHEMAS[name]
    versions = list(schema.hub)
    several = {"type": click.Choice(versions), "show_default": next(iter(versions), "")}
    data = {} if versions else {"required": True, "metavar": "FILE"}
    prompt = {"show_default": f"{default_prompt(name)}; open with --scoring options"}

    @takes(EvalFlags, data_version=several if len(versions) > 1 else None, data=data, prompt=prompt)
    def command(given: EvalFlags) -> int | None:
        screen = open_screen(quiet=given.quiet)
        report = run_benchmark(given, name, screen)
        if given.as_json:
            screen.write(json_line(report.to_dict()) + "\n")
        else:
            show_report(screen.out, report)
        return None if report.complete else EXIT_SOME_FAILED

    return click.command(name, cls=RayCommand, help=schema.help)(command)


def run_benchmark(given: EvalFlags, name: str, screen: Output) -> EvalReport:
    """Start or resume the run that the options describe, and score it. Raises SmolVideoError."""
    settings = _read_settings(given, name)
    cluster = read_cluster(given)
    _check_downloads(given)
    with ExitStack() as stack:
        with StageProgress(screen) as stages:
            data = _data_file(given, name, stages)
            benchmark = load_benchmark(name, data, unlabelled=given.unlabelled)  # type: ignore[arg-type]
            parse_groupings(given.group, benchmark.items)  # an error before the model is loaded
            spec = choose_engine(
                given,
                screen,
                drawn=lambda: _all_drawn(given, data, benchmark),
                frames=given.max_frames,
                stages=stages,
            )
            folder = given.run or default_run_folder(name, spec.model, given.shard)
            if given.only_failed and not (folder / "run.json").exists():
                raise UsageError(f"`--only-failed` resumes a run, and `{folder}` holds none yet")
            finder = _finder(given, data, folder)
            if cluster is None:
                cache = open_feature_cache(given.engine, on_note=screen.notice)
                model = local_model(spec.load(cache=cache, on_progress=stages.on_progress))
            else:
                model = stack.enter_context(cluster_model(spec, cluster))
        if model.checkpoint.is_nano and given.is_default("max_new_tokens"):
            settings = replace(settings, generation=_NANO_GENERATION)
        screen.notes(benchmark.notices)
        run = open_run_of(folder, benchmark, settings, model, given.shard)
        loader = ClipLoader(model.checkpoint, settings, name, finder)
        return _ask(screen, run, loader, model, given)


def _data_file(given: EvalFlags, name: str, stages: StageProgress) -> Path:
    """The file of the questions, downloaded if none is named."""
    if given.data is None:
        return fetch_benchmark(
            name,
            SCHEMAS[name].hub,
            given.data_version,
            offline=given.offline,
            on_progress=stages.on_progress,
        )
    if given.is_explicit("data_version"):
        raise UsageError("`--data-version` is for the hub's file, and FILE names another")
    return given.data


def _ask(
    screen: Output, run: RunFolder, loader: ClipLoader, model: EvalModel, given: EvalFlags
) -> EvalReport:
    reason, folder = model.checkpoint.model_reason, run.folder
    noted = [f"model {model.checkpoint.name}: {reason}"] if reason else []
    screen.notes(noted)

    def note(sentence: str) -> None:
        noted.append(sentence)
        screen.notice(sentence)

    try:
        with BenchmarkProgress(screen) as progress:
            run_clips(
                run,
                loader,
                model.answers(loader),
                only_failed=given.only_failed,
                on_news=progress.show,
                on_note=note,
            )
    except KeyboardInterrupt:
        screen.notice(f"the answers so far are in `{folder}`; the same command goes on from there")
        raise
    screen.notice(f"the run is in `{folder}`; `smolvideo eval report {folder}` shows it again")
    report = build_report(run, parse_groupings(given.group, run.items))
    report = replace(report, notices=(*noted, *report.notices))
    screen.notes(report.notices)
    return report


def _read_settings(given: EvalFlags, name: str) -> EvalSettings:
    """Read the eval settings. Raises UsageError for contradictory options."""
    scoring = given.scoring
    if scoring != "generate" and (useless := given.first_explicit("extractor", "max_new_tokens")):
        raise UsageError(f"`{useless}` has no effect with `--scoring {scoring}`")
    prompt = given.prompt or ("open" if scoring == "options" else default_prompt(name))
    if prompt == "open" and scoring == "generate" and given.extractor == "official":
        raise UsageError("the prompt `open` asks for no letter, which `official` looks for")
    return EvalSettings(
        prompt=prompt,
        extractor=given.extractor,
        scoring=scoring,
        controls=given.controls,
        subtitles=given.subtitles,
        seed=given.seed,
        sample=given.sample,
        limit=given.limit,
        sampling=read_sampling(given),
        prompt_options=PromptOptions(layout=given.layout, geometry=given.geometry),
        generation=replace(_DEFAULTS.generation, max_new_tokens=given.max_new_tokens),
        reader=given.reader,
    )


def _check_downloads(given: EvalFlags) -> None:
    useless = given.first_explicit("download_every", *DOWNLOAD_FIELDS)
    if useless and not given.download:
        raise UsageError(f"`{useless}` has no effect without `--download`")
    if given.download and given.ray is not None:
        raise UsageError(
            "`--download` is for this process alone, and `--ray` for workers",
            hint="run without `--ray` until the videos are there",
        )


def _all_drawn(given: EvalFlags, data: Path, benchmark: Benchmark) -> bool:
    """Whether the videos of all items that are on this machine are drawn ones."""
    if given.download:
        return False
    finder = _finder(given, data, data)

    def sources() -> Iterator[VideoSource]:
        seen: set[Path] = set()
        for item in benchmark.items:
            try:
                found = finder.find(item).source
            except SmolVideoError:  # reported when the item is asked
                continue
            if found.path not in seen:
                seen.add(found.path)
                yield found

    return all_drawn(sources(), reader=given.reader)


def _finder(given: EvalFlags, data: Path, folder: Path) -> VideoFinder:
    videos = given.videos
    if videos is None and given.data is not None:
        videos = data if data.is_dir() else data.parent
    if videos is None and not given.download:
        raise UsageError("no videos to look at", hint="`--videos DIR` or `--download`")
    found = VideoFolder(videos) if videos is not None else None
    if not given.download:
        return VideoFinder(found)
    options = given.download_options(offline=given.offline)
    # Stored next to the videos, shared with other runs; without a folder, in the run.
    archive = DownloadArchive.open((videos or folder) / ARCHIVE_NAME)
    return VideoFinder(
        found, VideoDownloader(archive, options, min_interval_seconds=given.download_every)
    )


class ExamRunFlags(Flags, section="Exam"):
    """Which exam, and where it is kept."""

    parts: tuple[str, ...] = flag(
        "--part",
        type=click.Choice(PARTS),
        multiple=True,
        show_default="all",
        help="A part of the exam; can be repeated.",
    )
    limit: int = flag(
        type=IntegerType(min=1),
        metavar="N",
        default=default_of(ExamOptions, "videos"),
        help="The first N videos of each part; about ten questions each.",
    )
    seed: int = flag(
        type=IntegerType(min=0),
        metavar="N",
        default_from=ExamOptions,
        help="Seed of the questions; only scores with the same seed are comparable.",
    )
    videos: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="a temporary one",
        help="Folder for the rendered videos, which are reused.",
    )
    run: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="runs/world-MODEL",
        help="Folder of the run; a stopped run is resumed.",
    )


class ExamOutputFlags(Flags, section="Output"):
    """Where scores and answers go."""

    as_json: bool = flag("--json", help="One line of JSON instead of the table.")
    output: Path | None = flag(
        "-o",
        type=FilePath(),
        metavar="FILE",
        show_default="none",
        help="Write every question with its answers to FILE, one JSON object per line.",
    )
    overwrite: bool = flag(help="Replace an --output that exists.")
    quiet: bool = flag(help="No progress.")


class ExamFlags(EngineFlags, ExamRunFlags, ExamOutputFlags):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(ExamFlags)
def exam(given: ExamFlags) -> None:
    """Evaluate a model on held-out scenes of the drawn world.

    The videos are rendered as mp4 files of many sizes and frame rates, and asked about as in `ask`:
    open questions, which need exact answers, and questions with five options in CinePile's form.
    The same questions are repeated with grey frames (blind). Half of the videos have a combination
    of colour, shape and behaviour, or a number, that is not in nano's training; half have questions
    in wordings that are not. That is the part `old`. `wordings` asks as users type, half of it
    yes-no questions with the truth in equal parts; `renderer` draws the scenes with another program
    and other codecs; `unanswerable` asks what no drawing answers.
    """
    if given.output is not None:
        check_new_file(given.output, overwrite=given.overwrite)
    elif given.is_explicit("overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    screen = open_screen(quiet=given.quiet)
    with StageProgress(screen) as stages:
        # The exam is drawn, so that nano is the choice of auto.
        spec = choose_engine(given, screen, drawn=lambda: True, frames=0, stages=stages)
        engine = spec.load(on_progress=stages.on_progress)
    from smolvideo.train.exam.evaluate import evaluate_exam
    from smolvideo.train.exam.run import ExamRun

    # Evaluate, resuming a run in the folder.
    options = ExamOptions(videos=given.limit, seed=given.seed)
    folder = given.videos
    kept = given.run or default_run_folder("world", spec.model)
    run = ExamRun.open(kept, engine, options)
    try:
        with ExamProgress(screen) as progress, wrap_write_errors(folder or kept):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            report = evaluate_exam(
                engine,
                options,
                parts=[part for part in PARTS if part in (given.parts or PARTS)],
                folder=folder,
                run=run,
                on_progress=progress.show,
            )
    except KeyboardInterrupt:
        screen.notice(f"the answers so far are in `{kept}`; the same command goes on from there")
        raise
    # Write and show the report.
    if given.output is not None:
        write_text_atomic(given.output, report.to_jsonl(), overwrite=given.overwrite)
    if given.as_json:
        screen.write(report.to_json() + "\n")
    else:
        show_exam_report(screen.out, report)
