"""``smolvideo bench``: compare engines by time per stage and memory; the group with ``frames``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from smolvideo.bench import BASELINES, BenchOptions, BenchReport, run_bench
from smolvideo.bench.instruction_sets import INSTRUCTION_SETS, check_isa
from smolvideo.bench.picture import QWEN2_VL, PictureMeasurement, PictureTask
from smolvideo.bench.report import PictureReport, run_picture_bench
from smolvideo.cli.bench_frames import bench_frames
from smolvideo.cli.flags import Flags, SectionCommand, SectionGroup, flag, takes
from smolvideo.cli.outputs import check_new_file, check_not_a_source
from smolvideo.cli.shell_completion import BY_METAVAR, complete_models, complete_names
from smolvideo.engines import ARITHMETICS, QUANTIZATIONS
from smolvideo.engines.base import format_dtype
from smolvideo.errors import UsageError
from smolvideo.formatting import format_bytes
from smolvideo.models.adapter import base_of_adapter
from smolvideo.models.registry import AUTO, is_auto
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output, open_screen
from smolvideo.source import resolve_source

_DEFAULTS = BenchOptions()
SWEPT_FRAMES = (1, 10, 50, 100)
_SWEPT = ", ".join(map(str, SWEPT_FRAMES))


class BenchModelFlags(Flags, section="Model"):
    """What is measured."""

    model: str = flag(
        "-m",
        default=AUTO,
        envvar="SMOLVIDEO_MODEL",
        show_envvar=True,
        shell_complete=complete_models,
        help="As for `ask`, but where auto finds no model here nano is measured: nothing is "
        "downloaded.",
    )
    random_weights: bool = flag(help="No checkpoint: random weights of the shapes in --config.")
    config: Path | None = flag(
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        show_default="none",
        help="Folder with a config.json and the tokenizer's files.",
    )
    engines: str = flag(
        "--engine",
        shell_complete=complete_names("native", "transformers"),
        default=",".join(_DEFAULTS.engines),
        help="Engines, comma-separated; the first is compared with the second.",
    )
    against: tuple[str, ...] = flag(
        type=click.Choice([*BASELINES, QWEN2_VL]),
        multiple=True,
        default=(),
        show_default="none",
        help="Another program to compare `native` with, if it is installed: pip install "
        "'smolvideo[openvino]', or 'smolvideo[llama-cpp]', which is compiled. Repeatable. "
        "qwen2-vl: another model, Qwen2-VL 2B with random weights, about one picture.",
    )
    device: str = flag(
        default_from=BenchOptions, shell_complete=BY_METAVAR["DEVICE"], help="As for `ask`."
    )
    dtype: str = flag(
        default_from=BenchOptions, shell_complete=BY_METAVAR["DTYPE"], help="As for `ask`."
    )
    quantize: str = flag(
        "--quantize",
        "--quantise",
        type=click.Choice(QUANTIZATIONS),
        default_from=BenchOptions,
        help="Compare the engine native with quantized weights against itself with float "
        "weights, with the error of the next token's log-probabilities.",
    )
    arithmetic: str = flag(
        type=click.Choice(ARITHMETICS), default_from=BenchOptions, help="As for `ask`."
    )
    adapter: Path | None = flag(
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        show_default="none",
        help="As for `ask`.",
    )


class MeasurementFlags(Flags, section="Measurement"):
    """How it is measured."""

    frames: int = flag(
        type=click.IntRange(min=1), default_from=BenchOptions, help="Frames of the video."
    )
    video: Path | None = flag(
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        show_default="one that is rendered",
        help="Video with the frames.",
    )
    new_tokens: int = flag(
        "--max-new-tokens",
        type=click.IntRange(min=2),
        default_from=BenchOptions,
        help="Tokens of each answer.",
    )
    memory_sweep: bool = flag(
        help=f"Peak memory of the first engine for {_SWEPT} frames, too.",
    )
    isa: str | None = flag(
        type=click.Choice(list(INSTRUCTION_SETS)),
        show_default="all of this processor",
        help="Cap the instruction set of torch, oneDNN, MKL and numba, as on a smaller processor.",
    )
    repeats: int = flag(
        type=click.IntRange(min=1),
        default_from=BenchOptions,
        help="Measurements of each engine, alternating.",
    )


class BenchOutputFlags(Flags, section="Output"):
    """Where the report goes."""

    output: Path | None = flag(
        "-o",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        show_default="none",
        help="Also write the JSON to FILE.",
    )
    overwrite: bool = flag(help="Replace an --output that exists.")
    quiet: bool = flag(help="Print nothing to stderr.")


class BenchFlags(BenchModelFlags, MeasurementFlags, BenchOutputFlags):
    """All options of the command."""


@click.command("bench", cls=SectionCommand)
@takes(BenchFlags)
def bench_engines(given: BenchFlags) -> None:
    """Measure speed and memory of engines, stage by stage.

    Each measurement runs in its own process after a warm-up, the engines alternating. A table goes
    to stderr; the last line of stdout is one JSON object.
    """
    options = _read_options(given)
    screen = open_screen(quiet=given.quiet)
    report: BenchReport | PictureReport

    def tell(doing: str) -> None:
        if not given.quiet:
            screen.err.print(escape_controls(doing), style="dim")

    if given.config is None:
        options = replace(options, model=_chosen_model(options, screen))
    # Table to stderr, JSON to stdout.
    if QWEN2_VL in given.against:
        peer = PictureTask(QWEN2_VL, options.new_tokens, options.device, options.dtype)
        report = run_picture_bench(options, peer, tell)
        if not given.quiet:
            _show_picture(screen, report)
    else:
        report = run_bench(options, tell)
        if not given.quiet:
            _show(screen, report)
    if given.output is not None:
        write_text_atomic(given.output, report.to_json() + "\n", overwrite=given.overwrite)
    click.echo(report.to_json())


def _read_options(given: BenchFlags) -> BenchOptions:
    """Check the options, the output file and the video, before the measuring process starts.

    Raises UsageError, RecordError or SourceError.
    """
    if given.random_weights != (given.config is not None):
        raise UsageError(
            "`--random-weights` and `--config DIR` go together",
            hint="smolvideo bench --random-weights --config DIR",
        )
    if given.quantize != "none" and (given.against or given.is_explicit("engines")):
        raise UsageError(
            "`--quantize` measures the engine `native` with and without",
            hint="leave `--engine` and `--against` out",
        )
    if given.adapter is not None and (given.random_weights or given.against):
        other = "--random-weights" if given.random_weights else "--against"
        raise UsageError(f"`--adapter` and `{other}` cannot go together")
    if QWEN2_VL in given.against:
        _check_picture_options(given)
    if given.isa is not None:
        check_isa(given.isa)
    if given.output is not None:
        check_new_file(given.output, overwrite=given.overwrite)
        sources = [] if given.video is None else [given.video]
        check_not_a_source("--output", given.output, sources)
    elif given.is_explicit("overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    if given.video is not None:
        resolve_source(str(given.video))
    return BenchOptions(
        engines=_engines(given) if given.quantize == "none" else ("native",),
        model=given.model,
        config=given.config,
        video=given.video,
        frames=given.frames,
        new_tokens=given.new_tokens,
        repeats=given.repeats,
        device=given.device,
        dtype=given.dtype,
        quantize=given.quantize,
        isa=given.isa,
        arithmetic=given.arithmetic,
        memory_sweep=SWEPT_FRAMES if given.memory_sweep else (),
        adapter=given.adapter,
    )


def _check_picture_options(given: BenchFlags) -> None:
    """Raise UsageError for options of a video, which one picture has no use for."""
    if len(given.against) > 1:
        raise UsageError(f"`--against {QWEN2_VL}` is a comparison of its own")
    for name in ("engines", "video", "frames", "memory_sweep", "isa", "adapter"):
        if given.is_explicit(name):
            option = {"engines": "--engine"}.get(name, "--" + name.replace("_", "-"))
            raise UsageError(
                f"`{option}` has no effect with `--against {QWEN2_VL}`",
                hint=f"leave `{option}` out",
            )


def _chosen_model(options: BenchOptions, screen: Output) -> str:
    """Return the model to measure: for ``auto`` the one that would answer about the video, and
    where none is on this machine nano, since a measurement is no answer."""
    from smolvideo.cost.choose import NoModelError, all_drawn, choose_model

    if not is_auto(options.model):
        return options.model
    if options.adapter is not None:
        return base_of_adapter(options.adapter)
    sources = [] if options.video is None else resolve_source(str(options.video))
    try:
        choice = choose_model(
            drawn=all_drawn(sources),
            frames=options.frames,
            device=options.device,
            dtype=options.dtype,
            quantize=options.quantize,
        )
    except NoModelError as error:
        screen.notice(f"{error}: `nano` is measured")
        return "nano"
    screen.notice(f"model {choice.model}: {choice.reason}")
    return choice.model


def _engines(given: BenchFlags) -> tuple[str, ...]:
    from smolvideo.engines import ENGINES

    text, against = given.engines, given.against
    if against and given.is_default("engines"):
        text = "native"
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in ENGINES:
            known = ", ".join(f"`{known}`" for known in ENGINES)
            raise UsageError(f"unknown engine `{name}`", hint=f"one of {known}")
    names += against
    if len(set(names)) < len(names):
        raise UsageError("an engine is named twice")
    return names


def _show(screen: Output, report: BenchReport) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for one in report.measured:
        table.add_column(escape_controls(one.name), justify="right")
    # Times per stage, then sizes.
    rows = {
        "load, s": "load",
        "decode, s": "decode",
        "preprocess, s": "preprocess",
        "encode, s": "encode",
        "prefill, s": "prefill",
        "first token, s": "first_token",
        "tokens per second": "tokens_per_second",
        "next question, s": "next_question",
        "20 questions, s": "twenty_questions",
    }
    for label, name in rows.items():
        values = [getattr(one, name) for one in report.measured]
        table.add_row(label, *("-" if value is None else f"{value:.3f}" for value in values))
    table.add_row("arithmetic", *(one.arithmetic for one in report.measured))
    for label, name in {"weights": "weight_bytes", "peak memory": "peak_memory_bytes"}.items():
        sizes = [getattr(one, name) for one in report.measured]
        table.add_row(label, *("-" if size is None else format_bytes(size) for size in sizes))
    screen.err.print(table)
    if report.memory_by_frames is not None:
        peaks = (
            f"{format_bytes(peak)} for {frames}"
            for frames, peak in report.memory_by_frames.items()
            if peak is not None
        )
        screen.err.print(f"peak memory by frames: {', '.join(peaks)}", highlight=False)
    for one in report.measured:
        if one.instruction_set is not None:
            text = f"{one.name} runs {one.instruction_set}"
            screen.err.print(escape_controls(text), highlight=False, soft_wrap=True)
    # Ratios and the error of quantization.
    ratios = (f"{name.replace('_', ' ')} {ratio:.2f}" for name, ratio in report.ratios.items())
    screen.err.print("ratios: " + " · ".join(ratios), highlight=False)
    if (error := report.log_probability_error) is not None:
        screen.err.print(
            f"log-probabilities of the next token are off by {error['largest']:.3g} at most, "
            f"{error['mean']:.3g} on average; KL divergence {error['kl_divergence']:.3g} nats",
            highlight=False,
        )


def _show_picture(screen: Output, report: PictureReport) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for one in report.measured:
        table.add_column(escape_controls(one.name), justify="right")
    rows: dict[str, Callable[[PictureMeasurement], str]] = {
        "parameters": lambda one: f"{one.parameters / 1e9:.2f}e9",
        "tokens of the picture": lambda one: f"{one.picture_tokens:,}",
        "tokens of the prompt": lambda one: f"{one.prompt_tokens:,}",
        "encode, s": lambda one: f"{one.encode:.2f}",
        "prefill, s": lambda one: f"{one.prefill:.2f}",
        "first token, s": lambda one: f"{one.first_token:.2f}",
        "tokens per second": lambda one: f"{one.generation:.2f}",
        "dtype": lambda one: format_dtype(one.dtype, arithmetic=one.arithmetic),
        "peak memory": lambda one: (
            "-" if one.peak_memory_bytes is None else format_bytes(one.peak_memory_bytes)
        ),
    }
    for label, text in rows.items():
        table.add_row(label, *(text(one) for one in report.measured))
    screen.err.print(table)
    ratios = (f"{name.replace('_', ' ')} {ratio:.2f}" for name, ratio in report.ratios.items())
    screen.err.print("ratios: " + " · ".join(ratios), highlight=False)


@click.pass_context
def _bench_engines_by_default(ctx: click.Context, /, **given: Any) -> None:
    if ctx.invoked_subcommand is None:
        assert bench_engines.callback is not None
        bench_engines.callback(**given)


bench = SectionGroup(
    "bench",
    callback=_bench_engines_by_default,
    params=bench_engines.params,
    help=bench_engines.help,
    invoke_without_command=True,
    subcommand_metavar="[frames]",
)
bench.add_command(bench_frames)
