"""``smolvideo bench``: compare engines by time per stage and memory."""

from pathlib import Path

import click

from smolvideo.bench import BASELINES, BenchOptions, BenchReport, run_bench
from smolvideo.cli.main import debug_option
from smolvideo.cli.options import is_explicit
from smolvideo.cli.outputs import check_new_file, check_not_a_source
from smolvideo.cli.params import SectionCommand, SectionOption
from smolvideo.cli.shell_completion import BY_METAVAR, complete_models, complete_names
from smolvideo.engines import QUANTIZATIONS
from smolvideo.errors import UsageError
from smolvideo.records import write_text_atomic
from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output, open_screen
from smolvideo.show.format import format_bytes
from smolvideo.source import resolve_source

_DEFAULTS = BenchOptions()


@click.command(cls=SectionCommand)
@click.option(
    "-m",
    "--model",
    cls=SectionOption,
    section="Model",
    shell_complete=complete_models,
    default=_DEFAULTS.model,
    help="As for `ask`.",
)
@click.option(
    "--random-weights",
    is_flag=True,
    cls=SectionOption,
    section="Model",
    help="No checkpoint: random weights of the shapes in --config.",
)
@click.option(
    "--config",
    cls=SectionOption,
    section="Model",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    show_default="none",
    help="Folder with a config.json and the tokenizer's files.",
)
@click.option(
    "--engine",
    "engines",
    cls=SectionOption,
    section="Model",
    shell_complete=complete_names("native", "transformers"),
    default=",".join(_DEFAULTS.engines),
    help="Engines, by commas; the first is compared with the second.",
)
@click.option(
    "--against",
    cls=SectionOption,
    section="Model",
    type=click.Choice(list(BASELINES)),
    multiple=True,
    show_default="none",
    help="A peer to compare `native` with, if it is installed: pip install 'smolvideo[openvino]', "
    "or 'smolvideo[llama-cpp]', which compiles. Repeatable.",
)
@click.option(
    "--device",
    cls=SectionOption,
    section="Model",
    default=_DEFAULTS.device,
    shell_complete=BY_METAVAR["DEVICE"],
    help="As for `ask`.",
)
@click.option(
    "--dtype",
    cls=SectionOption,
    section="Model",
    default=_DEFAULTS.dtype,
    shell_complete=BY_METAVAR["DTYPE"],
    help="As for `ask`.",
)
@click.option(
    "--quantize",
    "--quantise",
    cls=SectionOption,
    section="Model",
    type=click.Choice(QUANTIZATIONS),
    default=_DEFAULTS.quantize,
    help="The engine native with such weights against itself without, and how far the scores of "
    "the next token are off.",
)
@click.option(
    "--frames",
    cls=SectionOption,
    section="Measurement",
    type=click.IntRange(min=1),
    default=_DEFAULTS.frames,
    help="Frames of the video.",
)
@click.option(
    "--video",
    cls=SectionOption,
    section="Measurement",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    show_default="one that is rendered",
    help="Where to take the frames from.",
)
@click.option(
    "--max-new-tokens",
    "new_tokens",
    cls=SectionOption,
    section="Measurement",
    type=click.IntRange(min=2),
    default=_DEFAULTS.new_tokens,
    help="Tokens of each answer.",
)
@click.option(
    "--repeats",
    cls=SectionOption,
    section="Measurement",
    type=click.IntRange(min=1),
    default=_DEFAULTS.repeats,
    help="Measurements of each engine, in turns.",
)
@click.option(
    "--output",
    "-o",
    cls=SectionOption,
    section="Output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    show_default="none",
    help="Keep the JSON in FILE, too.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    cls=SectionOption,
    section="Output",
    help="Replace an --output that exists.",
)
@click.option(
    "--quiet", is_flag=True, cls=SectionOption, section="Output", help="Nothing on stderr."
)
@debug_option
@click.pass_context
def bench(
    ctx: click.Context,
    /,
    model: str,
    random_weights: bool,
    config: Path | None,
    engines: str,
    against: tuple[str, ...],
    device: str,
    dtype: str,
    quantize: str,
    frames: int,
    video: Path | None,
    new_tokens: int,
    repeats: int,
    output: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure speed and memory of engines, stage by stage.

    Each measurement runs in a process of its own, after a warm-up, the engines in turns. A table
    goes to stderr; the last line of stdout is one JSON object.
    """
    # Check the combinations of options, the output file and the video.
    if random_weights != (config is not None):
        raise UsageError(
            "`--random-weights` and `--config DIR` go together",
            hint="smolvideo bench --random-weights --config DIR",
        )
    if quantize != "none" and (against or is_explicit(ctx, "engines")):
        raise UsageError(
            "`--quantize` measures the engine `native` with and without",
            hint="leave `--engine` and `--against` out",
        )
    if output is not None:
        check_new_file(output, overwrite=overwrite)
        check_not_a_source("--output", output, [] if video is None else [video])
    elif overwrite:
        raise UsageError("`--overwrite` has no effect without `--output`")
    if video is not None:
        resolve_source(str(video))  # fail early, before the measuring process and its warm-up
    # Run the benchmark.
    options = BenchOptions(
        engines=_engines(ctx, engines, against) if quantize == "none" else ("native",),
        model=model,
        config=config,
        video=video,
        frames=frames,
        new_tokens=new_tokens,
        repeats=repeats,
        device=device,
        dtype=dtype,
        quantize=quantize,
    )
    screen = open_screen(quiet=quiet)

    def tell(doing: str) -> None:
        if not quiet:
            screen.err.print(escape_controls(doing), style="dim")

    report = run_bench(options, tell)
    # Table to stderr, JSON to stdout.
    if not quiet:
        _show(screen, report)
    if output is not None:
        write_text_atomic(output, report.to_json() + "\n", overwrite=overwrite)
    click.echo(report.to_json())


def _engines(ctx: click.Context, text: str, against: tuple[str, ...]) -> tuple[str, ...]:
    from smolvideo.engines import ENGINES

    if against and not is_explicit(ctx, "engines"):
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
    for label, name in {"weights": "weight_bytes", "peak memory": "peak_memory_bytes"}.items():
        sizes = [getattr(one, name) for one in report.measured]
        table.add_row(label, *("-" if size is None else format_bytes(size) for size in sizes))
    screen.err.print(table)
    # Ratios and the error of quantization.
    ratios = (f"{name.replace('_', ' ')} {ratio:.2f}" for name, ratio in report.ratios.items())
    screen.err.print("ratios: " + " · ".join(ratios), highlight=False)
    if (error := report.log_probability_error) is not None:
        screen.err.print(
            f"log-probabilities of the next token are off by {error['largest']:.3g} at most, "
            f"{error['mean']:.3g} on average; KL divergence {error['kl_divergence']:.3g} nats",
            highlight=False,
        )
