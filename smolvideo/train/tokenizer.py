"""nano's tokenizer: byte-level BPE like SmolLM2's, small, trained on the words of the world."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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

VOCABULARY_SIZE = 448


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
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def special_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of one of ``SPECIAL_TOKENS``."""
    token_id = tokenizer.token_to_id(name)
    if token_id is None:
        raise ValueError(f"{name} is no token of this tokenizer")
    return int(token_id)
