"""What a step of drilling is given: rows of exercises in text alone."""

from itertools import islice
from random import Random

from tokenizers import Tokenizer

from smolvideo.train.course import CHOICE_FORMS, DRILLS_PER_ROW
from smolvideo.train.packing import AskedRows, nothing_shown, pack_questions, stack_rows
from smolvideo.train.world.drills import drills


def draw_drills(random: Random, rows: int, tokenizer: Tokenizer) -> AskedRows:
    """``rows`` rows of ``DRILLS_PER_ROW`` exercises each, none of which needs a video."""
    form = random.choice(CHOICE_FORMS)
    asked = [list(islice(drills(random, None, form), DRILLS_PER_ROW)) for _ in range(rows)]
    front = nothing_shown(tokenizer)
    return stack_rows([pack_questions(front, row, tokenizer) for row in asked], asked)
