"""nano's tokenizer, a small byte-level BPE, and the corpus that it is trained on."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

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


SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    "<end_of_utterance>",
)
"""The special tokens of SmolVLM2 that nano uses, in the order of their ids."""

VOCABULARY_SIZE = 832
SECONDS = tuple(f":{second:02}" for second in range(60))
"""The seconds of a time stamp are one token each: attention finds a frame by its time with one key
instead of three in a row."""
_STAMP_END = ":[0-5][0-9]"
_PRETOKENIZE_PATTERN = (
    rf"{_STAMP_END}|\p{{N}}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+"
    rf"| ?(?:(?!{_STAMP_END})[^\s\p{{L}}\p{{N}}])+|\s+(?!\S)|\s+"
)
"""GPT-2's pre-tokenization, but with single digits, and the seconds of a time stamp as one."""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Train a tokenizer with all bytes as its alphabet: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SECONDS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_seconds(tokenizer)


def _with_seconds(tokenizer: Tokenizer) -> Tokenizer:
    """Add ``SECONDS`` to the vocabulary. Not as added tokens: those are reserved for text that
    questions may not contain, and are not matched in questions."""
    rules = json.loads(tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    vocabulary.update({second: len(vocabulary) + n for n, second in enumerate(SECONDS)})
    # With `ignore_merges` a piece that is in the vocabulary is one token and needs no merges.
    rules["model"]["ignore_merges"] = True
    grown = Tokenizer.from_str(json.dumps(rules))
    grown.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRETOKENIZE_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return grown


def special_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of one of ``SPECIAL_TOKENS``."""
    token_id = tokenizer.token_to_id(name)
    if token_id is None:
        raise ValueError(f"{name} is no token of this tokenizer")
    return int(token_id)
