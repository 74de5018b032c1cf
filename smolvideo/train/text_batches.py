"""Training batches of text exercises alone."""

from itertools import islice
from random import Random

from tokenizers import Tokenizer

from smolvideo.train.packing import PackedBatch, collate, pack_questions, text_prefix
from smolvideo.train.schedule import CHOICE_FORMS, DRILLS_PER_ROW
from smolvideo.train.world.text_exercises import text_exercises


def make_text_batch(random: Random, rows: int, tokenizer: Tokenizer) -> PackedBatch:
    """Make ``rows`` rows of ``DRILLS_PER_ROW`` exercises each, without a video."""
    form = random.choice(CHOICE_FORMS)
    asked = [list(islice(text_exercises(random, None, form), DRILLS_PER_ROW)) for _ in range(rows)]
    front = text_prefix(tokenizer)
    return collate([pack_questions(front, row, tokenizer) for row in asked], asked)
