"""tokenizer.json: the tokens it names, and the tokenizer itself with or without special ones."""

from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.errors import ModelError
from smolvideo.models.files import Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(folder: Path) -> "Tokenizer":
    """The tokenizer of a checkpoint, which never truncates or pads.

    Raises ModelError where the file is no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"broken tokenizer `{folder / TOKENIZER_FILE}`: {error}") from error
    # Truncation (on the left, in this family) would cut images in two.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def without_special_tokens(tokenizer: "Tokenizer") -> "Tokenizer":
    """The same vocabulary and rules without the added tokens: ``<image>`` in a text is seven
    characters and nothing more.

    The vocabulary is shared, not copied: reading it takes as long as all the rest.
    """
    from tokenizers import Tokenizer

    plain = Tokenizer(tokenizer.model)
    plain.normalizer = tokenizer.normalizer
    plain.pre_tokenizer = tokenizer.pre_tokenizer
    plain.decoder = tokenizer.decoder
    return plain


def special_tokens(rules: Json, folder: Path) -> dict[str, int]:
    """The added tokens of a parsed tokenizer.json, name → id. Raises ModelError."""
    try:
        added = rules.get("added_tokens") or []
        return {str(token["content"]): int(token["id"]) for token in added}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"broken tokenizer `{folder / TOKENIZER_FILE}`: `added_tokens` is malformed"
        ) from error


def highest_token_id(rules: Json, special: dict[str, int]) -> int:
    """The largest id that a text or a prompt can contain."""
    model = rules.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = vocabulary.values() if isinstance(vocabulary, dict) else ()
    return max((value for value in (*ids, *special.values()) if isinstance(value, int)), default=0)
