"""Processor files of a checkpoint: settings of the image processor, and the tokenizer.

Prompts follow the family's processors with the settings they were published with; only ``size`` and
``do_image_splitting`` may vary. Other deviating settings are refused, because the model would
silently get other inputs than in training.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from smolvideo.errors import ModelError
from smolvideo.models.json_files import (
    TAKE_AS_PUBLISHED,
    Json,
    broken_checkpoint,
    read_optional_json,
    shown,
)
from smolvideo.models.network_config import MAX_IMAGE_SIZE, flag

if TYPE_CHECKING:
    from tokenizers import Tokenizer


_ALWAYS: dict[str, Any] = {
    **dict.fromkeys(("do_convert_rgb", "do_normalize", "do_pad", "do_rescale", "do_resize"), True),
    "image_mean": 0.5,
    "image_std": 0.5,
    "rescale_factor": 1 / 255,
    "resample": 1,
}
"""Values of all published checkpoints; ``resample`` 1 is Lanczos. Mean and standard deviation may
be one number or one per channel."""
_TYPES = ("Idefics3ImageProcessor", "SmolVLMImageProcessor")
_FPS = 1


@dataclass(frozen=True)
class ProcessorConfig:
    """Settings of the image processor. ``resize_edge`` is the long side, in pixels, to which images
    are scaled before they are split into squares; ``splits_pictures``: images are split.
    ``image_seq_len`` is the number of tokens per square, None if not stated.
    """

    resize_edge: int
    splits_pictures: bool
    image_seq_len: int | None

    @classmethod
    def read(cls, folder: Path, image_size: int) -> "ProcessorConfig":
        """Read the settings of the checkpoint in ``folder``, whose vision tower takes squares of
        ``image_size`` pixels. Raises ModelError.
        """
        settings = _settings(folder)
        _check_fixed(settings)
        _check_sizes(settings, image_size, folder)
        tokens = read_optional_json(folder / "processor_config.json").get("image_seq_len")
        if tokens is not None and type(tokens) is not int:
            raise broken_checkpoint(f"`image_seq_len` must be a whole number, not {shown(tokens)}")
        default = min(4 * image_size, MAX_IMAGE_SIZE)
        return cls(
            resize_edge=_longest_edge(settings, "size", default, folder),
            splits_pictures=flag(settings, "do_image_splitting", default=True),
            image_seq_len=tokens,
        )

    def check_tokens(self, tokens_per_image: int) -> None:
        """Raise ModelError if the network yields another number of tokens per square."""
        if self.image_seq_len not in (None, tokens_per_image):
            raise broken_checkpoint(
                f"`image_seq_len` in processor_config.json is {self.image_seq_len}, but the "
                f"network makes {tokens_per_image} tokens of an image"
            )


def _settings(folder: Path) -> Json:
    """Return the image processor's settings; transformers 5 nests them in processor_config.json."""
    own = read_optional_json(folder / "preprocessor_config.json")
    if own:
        return own
    nested = read_optional_json(folder / "processor_config.json").get("image_processor")
    if nested is not None and not isinstance(nested, dict):
        raise broken_checkpoint(
            f"`image_processor` in `{folder / 'processor_config.json'}` must be an object, "
            f"not {shown(nested)}"
        )
    return nested or {}


def _check_fixed(settings: Json) -> None:
    for key, expected in _ALWAYS.items():
        given = settings.get(key)
        if given is None:
            continue
        values = (
            given if isinstance(given, list) and key in ("image_mean", "image_std") else [given]
        )
        if len(values) not in (1, 3) or not all(_is_same(one, expected) for one in values):
            raise broken_checkpoint(
                f"the image processor's `{key}` is {shown(given)}, and that of every SmolVLM is "
                f"{expected!r}"
            )
    kind = settings.get("image_processor_type")
    if kind is not None and not (isinstance(kind, str) and kind.startswith(_TYPES)):
        raise broken_checkpoint(f"`image_processor_type` is {shown(kind)}, which no SmolVLM has")


def _is_same(given: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        return is_number and math.isclose(given, expected, rel_tol=1e-6)
    return type(given) is type(expected) and given == expected


def _check_sizes(settings: Json, image_size: int, folder: Path) -> None:
    """Check that the processor's squares have the size of the vision tower's input."""
    sampling = settings.get("video_sampling")
    if sampling is not None and not isinstance(sampling, dict):
        raise broken_checkpoint(f"`video_sampling` must be an object, not {shown(sampling)}")
    video = sampling or {}
    for section, key in ((settings, "max_image_size"), (video, "video_size")):
        edge = _longest_edge(section, key, image_size, folder)
        if edge != image_size:
            raise broken_checkpoint(
                f"`{key}` in `{folder}` is {edge} pixels, but `image_size` in config.json is "
                f"{image_size}"
            )
    if video.get("fps") is not None and not _is_same(video["fps"], float(_FPS)):
        raise broken_checkpoint(f"the video processor's `fps` is {shown(video['fps'])}, not {_FPS}")
    limit = video.get("max_frames")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise broken_checkpoint(f"`max_frames` must be a whole number above 0, not {shown(limit)}")


def _longest_edge(settings: Json, key: str, default: int, folder: Path) -> int:
    size = settings.get(key)
    edge = size.get("longest_edge", default) if isinstance(size, dict) else default
    odd = size is not None and not isinstance(size, dict)
    if odd or isinstance(edge, bool) or not isinstance(edge, int) or not 0 < edge <= MAX_IMAGE_SIZE:
        raise broken_checkpoint(
            f"the image processor's `longest_edge` in `{folder}` must be a whole number from 1 to "
            f"{MAX_IMAGE_SIZE:,}, not {shown(size if odd else edge)}"
        )
    return edge


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
