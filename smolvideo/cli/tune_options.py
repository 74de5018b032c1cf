"""Options of ``smolvideo tune``, and their conversion to ``TuneOptions``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smolvideo.cli.flags import FilePath, Flags, FloatType, IntegerType, argument, flag
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.model_options import ModelFlags
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import ARITHMETICS, EngineSpec
from smolvideo.errors import UsageError
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import StageProgress
from smolvideo.tune.options import METHODS, PARTS, TuneOptions

if TYPE_CHECKING:
    from smolvideo.tune.items import Items

_LOOKED_AT = 50
"""Clips that are opened to find out whether all are drawn."""


class TuneModelFlags(ModelFlags, section="Model"):
    """The checkpoint to tune, and how it is computed."""

    device: str = flag(default="auto", metavar="DEVICE", help="As for `ask`.")
    dtype: str = flag(
        default="auto",
        metavar="DTYPE",
        help="Of the frozen weights; what is trained is float32.",
    )
    arithmetic: str = flag(
        type=click.Choice(ARITHMETICS), default=ARITHMETICS[0], help="Of the frames, as for `ask`."
    )


class DataFlags(Flags, section="Data"):
    """The data file, and where its clips are."""

    data: Path = argument(type=FilePath(), metavar="DATA")
    media: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="that of DATA",
        help="Folder that the names of clips are relative to.",
    )
    allow_outside: bool = flag(help="Allow files outside of that folder.")
    skip_faulty: bool = flag(help="Leave out lines that cannot be used, with a note.")
    max_frames: int = flag(
        default_from=TuneOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Frames of each sample, shared by its clips.",
    )
    held_out: float = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, max=1, max_open=True),
        metavar="SHARE",
        help="Share of the clips that are not trained on, to score the run.",
    )


class TrainingFlags(Flags, section="Training"):
    """How it is trained."""

    method: Any = flag(
        type=click.Choice(METHODS),
        default_from=TuneOptions,
        help="lora: small matrices beside frozen weights. qlora: the same over weights in 4 bits "
        "(bitsandbytes). full: the weights themselves, 16 bytes of memory for each.",
    )
    parts: str = flag(
        "--train",
        default="decoder",
        metavar="PARTS",
        help=f"Comma-separated, of {', '.join(PARTS)}. With connector or vision every step encodes "
        "its frames anew: several times as long. rows: of the embedding, for new words.",
    )
    steps: int | None = flag(
        default_from=TuneOptions,
        type=IntegerType(min=1),
        metavar="N",
        show_default="by --epochs",
        help="Steps of the whole run.",
    )
    epochs: float = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, min_open=True),
        metavar="N",
        help="How often each line is trained on.",
    )
    batch_size: int = flag(
        default_from=TuneOptions, type=IntegerType(min=1), metavar="N", help="Samples of a step."
    )
    micro_batch: int = flag(
        default_from=TuneOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Samples in memory at a time; the result is the same but for rounding.",
    )
    learning_rate: float | None = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, min_open=True),
        metavar="RATE",
        show_default="2e-4; full 2e-5; nano 1e-3",
        help="Highest rate of AdamW; it rises first, then falls along a cosine.",
    )
    weight_decay: float = flag(
        default_from=TuneOptions, type=FloatType(min=0), metavar="X", help="Weight decay of AdamW."
    )
    rank: int = flag(
        default_from=TuneOptions, type=IntegerType(min=1), metavar="N", help="Rank of LoRA."
    )
    alpha: float | None = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, min_open=True),
        metavar="X",
        show_default="twice the rank",
        help="Scale of LoRA, over its rank.",
    )
    dropout: float = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, max=1, max_open=True),
        metavar="SHARE",
        help="Dropout before LoRA's matrices.",
    )
    checkpointing: bool | None = flag(
        "--checkpointing/--no-checkpointing",
        default_from=TuneOptions,
        show_default="but for nano",
        help="Compute activations twice instead of keeping them: less memory, a third longer.",
    )
    seed: int = flag(
        default_from=TuneOptions,
        type=IntegerType(min=0),
        metavar="N",
        help="Of order, dropout, split and first weights.",
    )


class ForgettingFlags(Flags, section="Against forgetting"):
    """What is rehearsed, and the exam before and after."""

    rehearse: str = flag(
        default="auto",
        metavar="WHAT",
        help="self: the model's own answers to general questions about the same clips. world: "
        "nano's drawn world. A file of lines like DATA. none. auto: world for nano, else none.",
    )
    rehearse_share: float = flag(
        default_from=TuneOptions,
        type=FloatType(min=0, max=1, max_open=True),
        metavar="SHARE",
        help="Share of each step that is rehearsal.",
    )
    base_weight: float = flag(
        default_from=TuneOptions,
        type=FloatType(min=0),
        metavar="X",
        help="Weight of the divergence from the untuned model's probabilities in rehearsal.",
    )
    exam: str | None = flag(
        metavar="FILE|world",
        show_default="none",
        help="An eval before and after: questions as for `eval FILE.jsonl`, or nano's world.",
    )


class TuneOutputFlags(Flags, section="Output"):
    """Where the result goes."""

    out: Path = flag(
        type=FilePath(),
        default=Path("runs/tuned"),
        metavar="DIR",
        help="Folder of the run: a run found there goes on.",
    )
    merge: bool = flag(help="Also write DIR/merged, a checkpoint with the adapter in its weights.")
    eval_interval: int = flag(
        default_from=TuneOptions,
        type=IntegerType(min=0),
        metavar="N",
        show_default="ten times a run",
        help="Steps between two scores of the held-out clips.",
    )
    dry_run: bool = flag(help="Predict memory and time only; nothing is downloaded.")
    as_json: bool = flag("--json", help="Write the result as one JSON object.")
    quiet: bool = flag(help="Print only the result and errors.")


class TuneFlags(DataFlags, TuneModelFlags, TrainingFlags, ForgettingFlags, TuneOutputFlags):
    """All options of ``tune clips``."""


def read_options(given: TuneFlags) -> TuneOptions:
    """Read the training options. Raises UsageError for those that contradict each other."""
    parts = tuple(part.strip() for part in given.parts.split(",") if part.strip())
    if given.method == "full" and (useless := given.first_explicit("rank", "alpha", "dropout")):
        raise UsageError(f"`{useless}` is LoRA's, and has no effect with `--method full`")
    if given.rehearse == "none" and (
        useless := given.first_explicit("rehearse_share", "base_weight")
    ):
        raise UsageError(f"`{useless}` has no effect with `--rehearse none`")
    if given.is_explicit("steps") and given.is_explicit("epochs"):
        raise UsageError("`--steps` and `--epochs` both say how long the run is")
    return TuneOptions(
        method=given.method,
        steps=given.steps,
        epochs=given.epochs,
        batch_size=given.batch_size,
        micro_batch=given.micro_batch,
        learning_rate=given.learning_rate,
        weight_decay=given.weight_decay,
        rank=given.rank,
        alpha=given.alpha,
        dropout=given.dropout,
        parts=parts,  # type: ignore[arg-type]  # checked there
        held_out=given.held_out,
        eval_interval=given.eval_interval,
        rehearse_share=given.rehearse_share,
        base_weight=given.base_weight,
        checkpointing=given.checkpointing,
        max_frames=given.max_frames,
        seed=given.seed,
    )


def choose_tuned_model(
    given: TuneModelFlags,
    items: "Items",
    screen: Output,
    stages: StageProgress,
    *,
    max_frames: int,
) -> EngineSpec:
    """Return the model to tune, ``auto`` replaced, and how it is computed; as ``choose_engine``."""
    sources = [medium.source for item in items.items for medium in item.media][:_LOOKED_AT]
    spec = choose_engine(
        given, screen, drawn=lambda: all_drawn(sources), frames=max_frames, stages=stages
    )
    return replace(spec, device=given.device, dtype=given.dtype, arithmetic=given.arithmetic)
