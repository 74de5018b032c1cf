"""nano's tokenizer: byte-level BPE like SmolLM2's, small, trained on the words of the world."""

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    "<end_of_utterance>",
)
"""The special tokens of SmolVLM2 that nano has, in the order of their ids."""

VOCABULARY_SIZE = 832
SECONDS = tuple(f":{second:02}" for second in range(60))
"""The seconds of a time stamp are one token each: whoever looks for a frame by its time looks for
one vector, not for three in a row."""
_STAMP_END = ":[0-5][0-9]"
_PRETOKENIZE_PATTERN = (
    rf"{_STAMP_END}|\p{{N}}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+"
    rf"| ?(?:(?!{_STAMP_END})[^\s\p{{L}}\p{{N}}])+|\s+(?!\S)|\s+"
)
"""GPT-2's pieces, but every digit for itself, and the seconds of a time stamp together."""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer whose alphabet is all bytes: any text has tokens, known words have few."""
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
    """The same with ``SECONDS`` in its vocabulary. They are no added tokens: those stand for what
    no text may contain, and are not looked for in questions."""
    rules = json.loads(tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    vocabulary.update({second: len(vocabulary) + n for n, second in enumerate(SECONDS)})
    # What is in the vocabulary as a whole is taken as a whole, and needs no merges.
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
