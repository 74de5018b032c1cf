"""Tokenizer loading: tokenizer.json, its special tokens, and a copy without them."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from smolvideo.errors import ModelError
from smolvideo.models.json_files import TAKE_AS_PUBLISHED, Json, shown

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(folder: Path) -> "Tokenizer":
    """Load the tokenizer of a checkpoint, with truncation and padding disabled.

    Raises ModelError if the file is not a tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except BaseException as error:
        # tokenizers raises plain Exception, and pyo3's PanicException, which is not an Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise _broken(folder, str(error)) from error
    # Truncation (on the left, in this family) would cut an image's tokens.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def without_special_tokens(tokenizer: "Tokenizer") -> "Tokenizer":
    """Return a tokenizer with the same vocabulary and rules but without the added tokens, for which
    ``<image>`` in a text is seven characters.

    The vocabulary is shared, not copied: reading it takes as long as everything else.
    """
    from tokenizers import Tokenizer

    plain = Tokenizer(tokenizer.model)
    plain.normalizer = tokenizer.normalizer
    plain.pre_tokenizer = tokenizer.pre_tokenizer
    plain.decoder = tokenizer.decoder
    return plain


def special_tokens(tokenizer_json: Json, folder: Path) -> dict[str, int]:
    """Return the added tokens of a parsed tokenizer.json, name → id. Raises ModelError."""
    added = tokenizer_json.get("added_tokens")
    if added is not None and not isinstance(added, list):
        raise _broken(folder, "`added_tokens` is malformed")
    tokens: dict[str, int] = {}
    for token in added or ():
        name, token_id = (
            (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        )
        if not isinstance(name, str) or not name or not _is_id(token_id):
            raise _broken(folder, f"`added_tokens` is malformed: {shown(token)}")
        if tokens.setdefault(name, token_id) != token_id:
            raise _broken(folder, f"`added_tokens` has two ids for {shown(name)}")
    if len(set(tokens.values())) < len(tokens):
        raise _broken(folder, "`added_tokens` has two tokens of one id")
    return tokens


def highest_token_id(tokenizer_json: Json, special: dict[str, int], folder: Path) -> int:
    """Return the largest token id of vocabulary and special tokens. Raises ModelError."""
    model = tokenizer_json.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise _broken(folder, "it has no vocabulary")
    for name, token_id in vocabulary.items():
        if not _is_id(token_id):
            raise _broken(folder, f"{shown(name)} has the id {shown(token_id)}")
    highest: int = max((*vocabulary.values(), *special.values()))
    return highest


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _broken(folder: Path, why: str) -> ModelError:
    path = folder / TOKENIZER_FILE
    return ModelError(f"broken tokenizer `{path}`: {why}", hint=TAKE_AS_PUBLISHED)
