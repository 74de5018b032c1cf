"""nano's tokenizer: small byte-level BPE like SmolLM2's, trained on the world's corpus."""

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
