"""Checkpoint folder: configuration, special tokens and weight files, read and cross-checked.

Traps in the hub's own files that are handled here: pad_token_id 128002 is outside the vocabulary,
SmolVLM-Base declares token 0 as its end, and text_config.pixel_shuffle_factor is a leftover of the
effective top-level scale_factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from smolvideo.errors import ModelError
from smolvideo.models.adapter import Adapter, read_adapter
from smolvideo.models.json_files import (
    TAKE_AS_PUBLISHED,
    Json,
    broken_checkpoint,
    read_json,
    read_optional_json,
    read_text,
    shown,
)
from smolvideo.models.network_config import (
    MAX_CONTEXT_TOKENS,
    MAX_IMAGE_SIZE,
    MAX_SCALE_FACTOR,
    MAX_VOCABULARY,
    NetworkConfig,
    whole_number,
)
from smolvideo.models.processor import (
    TOKENIZER_FILE,
    ProcessorConfig,
    highest_token_id,
    load_tokenizer,
    special_tokens,
    without_special_tokens,
)
from smolvideo.models.registry import LAYOUTS, PromptFormat
from smolvideo.models.weights import WeightFiles, find_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LAYOUT_OF_FAMILY: dict[str, PromptFormat] = {"idefics3": "smolvlm", "smolvlm": "smolvlm2"}

END_OF_UTTERANCE = "<end_of_utterance>"
_END_OF_TEXT = "<|endoftext|>"

# Defaults of transformers' classes for keys missing in config.json (Idefics3Config, SmolVLMConfig,
# their vision configs, and LlamaConfig).
_DEFAULT_SCALE_FACTOR = 2
_DEFAULT_IMAGE_SIZE = 224
_DEFAULT_PATCH_SIZE = 32
_DEFAULT_CONTEXT_TOKENS = 2048
_DEFAULT_IMAGE_TOKEN_ID = 128257

_LONG_NAME = 40


@dataclass(frozen=True)
class Checkpoint:
    """A local checkpoint, with the properties that prompts and engines need.

    ``image_size`` is the side in pixels of the vision tower's square input; each square becomes
    ``tokens_per_image`` tokens. ``resize_edge`` is the long side to which the official processor
    scales first. ``eos_token_ids`` end an answer, ``end_of_turn_token`` is the token that ends a
    turn inside a prompt. ``stored_dtype`` is the dtype named in config.json (SmolVLM2 is stored as
    float32). ``splits_images``: the processor splits an image into tiles. ``model_reason`` is why
    ``auto`` chose it; None where it was named. ``max_images`` is the most images, frames included,
    that a server takes in one prompt; None where only the context limits them. ``adapter`` is
    merged into the weights while an engine loads them.
    """

    name: str
    folder: Path
    layout: PromptFormat
    revision: str | None
    model_type: str
    image_size: int
    patch_size: int
    scale_factor: int
    context_tokens: int
    image_token_id: int
    pad_token_id: int
    eos_token_ids: tuple[int, ...]
    end_of_turn_token: str
    resize_edge: int
    splits_images: bool
    stored_dtype: str | None
    special_tokens: Mapping[str, int] = field(repr=False)
    weights: WeightFiles | None
    model_reason: str | None = None
    adapter: Adapter | None = None
    max_images: int | None = None

    @property
    def tokens_per_image(self) -> int:
        """Tokens per square: patches per side over the pixel-shuffle factor, squared."""
        return (self.image_size // self.patch_size // self.scale_factor) ** 2

    @property
    def is_nano(self) -> bool:
        """Whether this is the project's own small model, trained on synthetic videos only."""
        return self.layout == "nano"

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The checkpoint's tokenizer with special tokens, for decoding answers."""
        return load_tokenizer(self.folder)

    @cached_property
    def text_tokenizer(self) -> "Tokenizer":
        """The tokenizer without its special tokens, so that no text can encode to one."""
        return without_special_tokens(self.tokenizer)

    @cached_property
    def training_vocabulary(self) -> frozenset[str] | None:
        """All words of the model's training questions, in lower case, if training.json lists them,
        and those of the adapter's; None otherwise."""
        file = self.folder / "training.json"
        words = read_json(file).get("words") if self.is_nano and file.is_file() else None
        if not isinstance(words, list):
            return None
        tuned = frozenset() if self.adapter is None else self.adapter.words
        return frozenset(map(str, words)) | tuned

    @property
    def adapter_sha256(self) -> str | None:
        """What identifies the adapter in records; None without one."""
        return None if self.adapter is None else self.adapter.sha256

    def with_adapter(self, path: Path) -> "Checkpoint":
        """Return the checkpoint with the LoRA adapter in ``path``; see ``read_adapter``."""
        config = NetworkConfig.from_json(read_json(self.folder / "config.json"))
        return replace(self, adapter=read_adapter(path, config, checkpoint_name=self.name))

    def __hash__(self) -> int:
        return hash((self.folder, self.revision))


def checkpoint_size_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of the checkpoint's files: weights, tokenizer and configuration."""
    files = [*checkpoint.folder.glob("*.json"), *checkpoint.folder.glob("*.safetensors")]
    return sum(file.stat().st_size for file in files if file.is_file())


def read_checkpoint(
    folder: Path, *, name: str, revision: str | None = None, weights: bool = True
) -> Checkpoint:
    """Read the checkpoint in ``folder``: configuration and token names, no weights.

    Raises ModelError naming the file or key that is missing, malformed or of another family; with
    ``weights`` also if weight files are missing or truncated.
    """
    # Configuration and tokenizer.
    config = read_json(folder / "config.json")
    layout = _layout(config, folder)
    text = _section(config, "text_config", folder)
    vision = _section(config, "vision_config", folder)
    rules = read_json(folder / TOKENIZER_FILE)
    tokens = special_tokens(rules, folder)
    vocabulary = _vocabulary_size(text, highest_token_id(rules, tokens, folder), folder)
    image_size = whole_number(vision, "image_size", _DEFAULT_IMAGE_SIZE, MAX_IMAGE_SIZE)
    processor = ProcessorConfig.read(folder, image_size)
    checkpoint = Checkpoint(
        name=name,
        folder=folder,
        layout=layout,
        revision=revision,
        model_type=str(config["model_type"]),
        image_size=image_size,
        patch_size=whole_number(vision, "patch_size", _DEFAULT_PATCH_SIZE, MAX_IMAGE_SIZE),
        scale_factor=whole_number(config, "scale_factor", _DEFAULT_SCALE_FACTOR, MAX_SCALE_FACTOR),
        context_tokens=whole_number(
            text, "max_position_embeddings", _DEFAULT_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS
        ),
        image_token_id=whole_number(
            config, "image_token_id", _DEFAULT_IMAGE_TOKEN_ID, MAX_VOCABULARY
        ),
        pad_token_id=_pad_token_id(text, tokens, vocabulary),
        eos_token_ids=_eos_token_ids(folder, config, text, tokens, vocabulary),
        end_of_turn_token=_turn_end(folder, tokens),
        resize_edge=processor.resize_edge,
        splits_images=processor.splits_pictures,
        stored_dtype=_text(config, "dtype") or _text(config, "torch_dtype"),
        special_tokens=tokens,
        weights=find_weights(folder) if weights else None,
    )
    # Cross-checks.
    _check_consistency(checkpoint)
    NetworkConfig.from_json(config)  # validation only, before weights are downloaded or read
    processor.check_tokens(checkpoint.tokens_per_image)
    return checkpoint


def _section(config: Json, key: str, folder: Path) -> Json:
    section = config.get(key)
    if not isinstance(section, dict):
        raise broken_checkpoint(f"`{folder / 'config.json'}` has no `{key}`")
    return section


def _text(section: Json, key: str) -> str | None:
    value = section.get(key)
    if value is not None and not isinstance(value, str):
        raise broken_checkpoint(f"`{key}` must be a text, not {shown(value)}")
    return value


def _layout(config: Json, folder: Path) -> PromptFormat:
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _LAYOUT_OF_FAMILY:
        raise ModelError(
            f"`{folder}` is a model of type {_quoted(family)}, not a SmolVLM",
            hint="smolvideo runs the types `idefics3` (SmolVLM) and `smolvlm` (SmolVLM2)",
        )
    named = config.get("smolvideo_layout")
    if named is None:
        return _LAYOUT_OF_FAMILY[family]
    layout: PromptFormat | None = next((known for known in LAYOUTS if known == named), None)
    if layout is None:
        raise broken_checkpoint(
            f"`smolvideo_layout` in `{folder / 'config.json'}` is {shown(named)}, "
            f"not one of {', '.join(LAYOUTS)}"
        )
    return layout


def _quoted(value: object) -> str:
    return f"`{value}`" if isinstance(value, str) and len(value) < _LONG_NAME else shown(value)


def _vocabulary_size(text: Json, highest_id: int, folder: Path) -> int:
    """Return the vocabulary size of the network, which must cover every id of the tokenizer."""
    size = whole_number(text, "vocab_size", min(highest_id + 1, MAX_VOCABULARY), MAX_VOCABULARY)
    if highest_id >= size:
        raise broken_checkpoint(
            f"the tokenizer of `{folder}` goes up to token {highest_id}, "
            f"but `vocab_size` in config.json is {size}"
        )
    return size


def _pad_token_id(text: Json, tokens: Mapping[str, int], vocabulary: int) -> int:
    """Return the text section's pad_token_id; the top-level one is 128002 on the hub, outside the
    vocabulary."""
    declared = text.get("pad_token_id")
    if declared is not None and (isinstance(declared, bool) or not isinstance(declared, int)):
        raise broken_checkpoint(f"`pad_token_id` must be a whole number, not {shown(declared)}")
    if declared is not None and 0 <= declared < vocabulary:
        return declared
    return tokens.get("<|im_end|>", 0)


def _eos_token_ids(
    folder: Path, config: Json, text: Json, tokens: Mapping[str, int], vocabulary: int
) -> tuple[int, ...]:
    """Return the declared end tokens, and ``<end_of_utterance>``, which SmolVLM-Base does not
    declare."""
    generation = read_optional_json(folder / "generation_config.json")
    declared: object = next(
        (
            section["eos_token_id"]
            for section in (generation, config, text)
            if section.get("eos_token_id") is not None
        ),
        [],
    )
    ends = list(declared) if isinstance(declared, list) else [declared]
    if END_OF_UTTERANCE in tokens:
        ends.append(tokens[END_OF_UTTERANCE])
    ids = [end for end in ends if isinstance(end, int) and not isinstance(end, bool)]
    if not ends or len(ids) < len(ends):
        raise broken_checkpoint(f"`{folder}` does not say which token ends an answer")
    if not 0 <= min(ids) <= max(ids) < vocabulary:
        raise broken_checkpoint(
            f"`{folder}` names token {shown(next(i for i in ids if not 0 <= i < vocabulary))} as "
            f"the end of an answer, and there are {vocabulary:,}"
        )
    return tuple(sorted(set(ids)))


def _turn_end(folder: Path, tokens: Mapping[str, int]) -> str:
    """Return the token that the chat template puts after each turn.

    The family has two templates, which differ in this token only. It is found by searching the
    text, to avoid running a downloaded template.
    """
    template = read_optional_json(folder / "chat_template.json").get("chat_template")
    if template is None and (folder / "chat_template.jinja").is_file():
        template = read_text(folder / "chat_template.jinja")
    if template is None:
        template = read_optional_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):  # several named templates
        named = {one.get("name"): one for one in template if isinstance(one, dict)}
        template = named.get("default", {}).get("template")
    if template is not None and not isinstance(template, str):
        raise broken_checkpoint(f"the chat template in `{folder}` is no text: {shown(template)}")
    ends_with_text = (
        template is not None and END_OF_UTTERANCE not in template and _END_OF_TEXT in template
    )
    return _END_OF_TEXT if ends_with_text or END_OF_UTTERANCE not in tokens else END_OF_UTTERANCE


def _check_consistency(checkpoint: Checkpoint) -> None:
    """Check that config and tokenizer belong to the same model. Raises ModelError."""
    patches = checkpoint.image_size // checkpoint.patch_size  # 384 / 14 leaves an unused margin
    if not patches or patches % checkpoint.scale_factor:
        raise broken_checkpoint(
            f"image size {checkpoint.image_size}, patch size "
            f"{checkpoint.patch_size} and scale factor {checkpoint.scale_factor} in "
            f"`{checkpoint.folder / 'config.json'}` do not divide"
        )
    needed = ["<|im_start|>", "<image>", checkpoint.end_of_turn_token]
    if checkpoint.layout != "nano":
        needed.append("<fake_token_around_image>")
    missing = [token for token in needed if token not in checkpoint.special_tokens]
    if missing:
        raise ModelError(
            f"the tokenizer of `{checkpoint.folder}` has no "
            f"{', '.join(f'`{token}`' for token in missing)}: not a SmolVLM",
            hint=TAKE_AS_PUBLISHED,
        )
    if checkpoint.special_tokens["<image>"] != checkpoint.image_token_id:
        raise broken_checkpoint(
            f"`<image>` is token {checkpoint.special_tokens['<image>']} in "
            f"tokenizer.json, but {checkpoint.image_token_id} in config.json, "
            f"of `{checkpoint.folder}`"
        )
