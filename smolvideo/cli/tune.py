"""``smolvideo tune``: fine-tune a checkpoint on one's own clips; ``tune align``: by preferences.

The module of a subcommand is imported lazily, when it runs or prints its help.
"""

from typing import ClassVar

import click

from smolvideo.cli.lazy_group import LazyGroup
from smolvideo.cli.main import debug_option


class TuneCommands(LazyGroup):
    """Subcommands of ``tune``; without the name of one it is ``clips``."""

    subcommands: ClassVar = {
        "clips": (
            "smolvideo.cli.tune_clips:clips",
            "Fine-tune on questions and answers; the word may be left out.",
        ),
        "align": (
            "smolvideo.cli.tune_align:align",
            "Align by pairs of a better and a worse answer (DPO).",
        ),
    }
    default = "clips"


@click.group("tune", cls=TuneCommands)
@debug_option
def tune() -> None:
    """Fine-tune a model on your own clips.

    What comes out is a LoRA adapter of some megabytes, for `--adapter` of every command, or a
    whole checkpoint. Needs the extra `tune`: pip install 'smolvideo[tune]'.

    \b
    smolvideo tune clips.jsonl --model smolvlm2-256m --out mine
    smolvideo ask --adapter mine video.mp4 "Which of our machines is this?"
    smolvideo tune clips.jsonl --model smolvlm2-2.2b --out mine --dry-run

    Each line of the file: {"video": "a.mp4", "question": "…", "answer": "…"}
    """
