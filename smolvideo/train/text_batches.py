"""What a step of drilling is given: rows of exercises in text alone."""

from itertools import islice
from random import Random

from tokenizers import Tokenizer

from smolvideo.train.packing import PackedBatch, collate, pack_questions, text_prefix
from smolvideo.train.schedule import CHOICE_FORMS, DRILLS_PER_ROW
from smolvideo.train.world.text_exercises import text_exercises


def make_text_batch(random: Random, rows: int, tokenizer: Tokenizer) -> PackedBatch:
    """``rows`` rows of ``DRILLS_PER_ROW`` exercises each, none of which needs a video."""
    form = random.choice(CHOICE_FORMS)
    asked = [list(islice(text_exercises(random, None, form), DRILLS_PER_ROW)) for _ in range(rows)]
    front = text_prefix(tokenizer)
    return collate([pack_questions(front, row, tokenizer) for row in asked], asked)
