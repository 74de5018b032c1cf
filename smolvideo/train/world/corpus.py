"""Training corpus of the tokenizer: every word of questions and answers."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from random import Random

from smolvideo.evals.protocol import format_question
from smolvideo.evals.protocol.prompts import PROMPTS
from smolvideo.train.world.multiple_choice import OPTIONS, WITHOUT_CHOICE, with_options
from smolvideo.train.world.question import informal
from smolvideo.train.world.questions import FrameClock, ask_about
from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, SHAPES, WORDS
from smolvideo.train.world.scene_sampler import sample_scene

_CLOCK = FrameClock(tuple(moment / 9 for moment in range(10)), 60.0)


@cache
def known_words() -> tuple[str, ...]:
    """Return every word of the questions, answers and option lists, in lower case, sorted."""
    random = Random(0)
    scenes = (sample_scene(random) for _ in range(2000))
    asked = (question for scene in scenes for question in ask_about(scene, random, _CLOCK))
    told = (f"{question.text} {question.subtitles or ''} {question.answer}" for question in asked)
    texts = chain(told, [format_question("plain", "cinepile", "", [""] * OPTIONS, None).text])
    return tuple(
        sorted({word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())})
    )


def corpus() -> Iterator[str]:
    """Yield texts of random scenes, including the prompts of questions with options."""
    for scene_word in (*SHAPES, *COLOURS, *BACKGROUNDS):
        yield f" {scene_word} a {scene_word} an {scene_word}"
    for word in WORDS:
        yield from [f" {word} "] * 100
    random = Random(0)
    yield from ["User:", "Assistant:"] * 100
    for number in range(4000):
        scene = sample_scene(random)
        for question in ask_about(scene, random, _CLOCK):
            yield informal(random, question).text
            yield f" {question.answer}"
            if question.subtitles:
                yield question.subtitles
            if number % 20 == 0 and question.type not in WITHOUT_CHOICE:
                prompt = random.choice([name for name in PROMPTS if name != "open"])
                yield with_options(question, scene, random, _CLOCK, prompt).text
