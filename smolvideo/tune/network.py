"""The network to tune: transformers' own, with peft's layers, and only what the loss needs.

Frame features come from the samples, so that vision tower and connector are neither in memory nor
in the graph: with a frozen tower, ``enable_input_require_grads`` would propagate back through all
of it. They are put into ``inputs_embeds``: an ``image_hidden_states`` that transformers no longer
knows is swallowed, and the training is blind. The head runs over tokens with targets alone, since
logits of all tokens take more memory than the rest. Padding is on the right, where the causal mask
keeps it apart; positions stay 0 … n.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from smolvideo.engines.base import set_block_bytes, trim_heap
from smolvideo.engines.devices import choose_device, choose_dtype
from smolvideo.engines.transformers import load_network, quiet_transformers
from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.train.world.questions import ask_about
from smolvideo.train.world.scene_sampler import sample_scene
from smolvideo.tune.options import Part, TuneOptions
from smolvideo.tune.samples import IGNORED, Sample

LORA_TARGETS: dict[Part, str] = {
    "decoder": r"model\.text_model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj",
    "connector": r"model\.connector\.modality_projection\.proj",
    "vision": r"model\.vision_model\.encoder\.layers\.\d+\.(self_attn\.\w+_proj|mlp\.fc[12])",
}
"""Full names: those of a list are matched by their ends, and hit the vision tower, too."""

_RETURNED_BYTES = 1 << 20
"""Activations of a layer: 256M with 8 frames otherwise takes 0.6 GB more, as measured."""

FULL_PARTS: dict[Part, tuple[str, ...]] = {
    "decoder": ("model.text_model.", "lm_head."),
    "connector": ("model.connector.",),
    "vision": ("model.vision_model.",),
}


def require_peft() -> Any:
    """Import peft. Raises UsageError where it is not installed."""
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            "LoRA is trained with peft, which is not installed",
            hint="pip install 'smolvideo[tune]'",
        ) from error
    return peft


class Padded(NamedTuple):
    """Right-padded samples: ``token_ids``, ``targets`` ``[B, L]``, ``frames`` rows in order."""

    token_ids: Tensor
    targets: Tensor
    frames: Tensor


def pad(samples: Sequence[Sample], *, pad_token_id: int, grey_row: int | None = None) -> Padded:
    """Pad samples to one length; with ``grey_row`` every frame is that one."""
    length = max(len(sample.token_ids) for sample in samples)

    def rows(parts: Sequence[Sequence[int]], value: int) -> Tensor:
        return torch.tensor([[*part, *[value] * (length - len(part))] for part in parts])

    frames = [row for sample in samples for row in sample.frames]
    if grey_row is not None:
        frames = [grey_row] * len(frames)
    return Padded(
        rows([sample.token_ids for sample in samples], pad_token_id),
        rows([sample.targets for sample in samples], IGNORED),
        torch.tensor(frames, dtype=torch.int64),
    )


class TuningNetwork:
    """A network whose ``trainable`` parameters are float32; ``features`` as in ``SampleSet``."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: TuneOptions,
        features: Tensor,
        *,
        device: str = "auto",
        dtype: str = "auto",
        new_rows: Sequence[int] = (),
    ) -> None:
        assert checkpoint.weights is not None
        self.checkpoint, self.options, self.features = checkpoint, options, features
        self.device = choose_device(device)
        if options.method == "full":
            # AdamW's updates of 2e-5 are lost in bfloat16, which has steps of 1/256.
            dtype = "float32"
        self.dtype = choose_dtype(self.device, checkpoint.weights.parameters, dtype)
        self.new_rows = tuple(new_rows) if "rows" in options.parts else ()
        if self.device.type == "cpu" and not checkpoint.is_nano:
            set_block_bytes(_RETURNED_BYTES)
        self.network = self._load()
        self._peft: Any = None
        if not options.trains_eyes:
            self.network.model.vision_model = self.network.model.connector = None
            trim_heap()
        torch.manual_seed(options.seed)  # peft draws the first A
        self.lora_config = None if options.method == "full" else self._add_lora()
        if options.method == "full":
            self._unfreeze()
        self.trainable: dict[str, nn.Parameter] = {
            name: parameter
            for name, parameter in self.network.named_parameters()
            if parameter.requires_grad
        }
        if not self.trainable:
            raise UsageError("no weight of this network would be trained")
        keeps = options.checkpointing is False or (
            options.checkpointing is None and checkpoint.is_nano
        )
        if not keeps:
            self.network.model.text_model.activation_checkpointing_enable()
            if options.trains_eyes:
                self.network.model.vision_model.activation_checkpointing_enable()

    def _load(self) -> Any:
        if self.options.method != "qlora":
            return load_network(self.checkpoint, self.device, self.dtype)
        return load_network(
            self.checkpoint,
            self.device,
            self.dtype,
            quantization_config=_four_bits(self.dtype),
        )

    def _add_lora(self) -> Any:
        peft, options = require_peft(), self.options
        patterns = [LORA_TARGETS[part] for part in options.parts if part in LORA_TARGETS]
        if not patterns and not self.new_rows:
            raise UsageError("no weight of this network would be trained")
        rows = {"embed_tokens": list(self.new_rows)} if self.new_rows else None
        config = peft.LoraConfig(
            r=options.rank,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.dropout,
            target_modules="|".join(f"(?:{pattern})" for pattern in patterns),
            trainable_token_indices=rows,
            bias="none",
        )
        with quiet_transformers():
            self._peft = peft.get_peft_model(self.network, config)
        return config

    def _unfreeze(self) -> None:
        prefixes = tuple(
            prefix for part in self.options.parts for prefix in FULL_PARTS.get(part, ())
        )
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(prefixes))

    @property
    def adapts(self) -> bool:
        """Whether the base can be had by leaving the adapter out."""
        return self._peft is not None

    @contextmanager
    def base(self) -> Iterator[None]:
        """Compute with the untuned network in the block."""
        with self._peft.disable_adapter():
            yield

    def train(self, *, training: bool) -> None:
        """Switch dropout and checkpointing on or off."""
        self.network.train(training)

    def logits(
        self, samples: Sequence[Sample], *, grey_row: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits ``[R, vocabulary]`` float32 of the R tokens with targets, the targets, and
        the index of the sample of each."""
        batch = pad(samples, pad_token_id=self.checkpoint.pad_token_id, grey_row=grey_row)
        token_ids, targets = batch.token_ids.to(self.device), batch.targets.to(self.device)
        vectors = self.network.get_input_embeddings()(token_ids)
        if len(batch.frames):
            at_images = (token_ids == self.checkpoint.image_token_id).unsqueeze(-1)
            features = self._features(batch.frames).to(vectors.dtype)
            vectors = vectors.masked_scatter(at_images, features)
        # No mask: causal attention alone, and padding is behind every token that counts.
        hidden = self.network.model.text_model(inputs_embeds=vectors, use_cache=False)[0]
        counted = targets != IGNORED
        logits = self.network.lm_head(hidden[counted]).float()
        return logits, targets[counted], counted.nonzero()[:, 0]

    def _features(self, rows: Tensor) -> Tensor:
        """Features ``[rows, tokens_per_image, hidden]``, as prepared or from the pixels now."""
        chosen = self.features[rows].to(self.device)
        if not self.options.trains_eyes:
            return chosen
        pixels = ((chosen.permute(0, 3, 1, 2).float() - 127.5) / 127.5).to(self.dtype)
        found = self.network.model.get_image_features(pixels[None], return_dict=True)
        return torch.cat(tuple(found.pooler_output))

    def adapter_tensors(self) -> dict[str, Tensor]:
        """The adapter's tensors with peft's names, on the CPU."""
        # "auto" would ask the hub for the base's configuration.
        found = require_peft().get_peft_model_state_dict(self._peft, save_embedding_layers=False)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    def full_tensors(self) -> dict[str, Tensor]:
        """The trained weights with the checkpoint's names."""
        return {name: tensor.detach().cpu() for name, tensor in self.trainable.items()}


def _four_bits(dtype: torch.dtype) -> Any:
    """NF4 with double quantization of the decoder's layers alone (QLoRA, arXiv 2305.14314).

    Modules to skip are full names: others skip nothing.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "QLoRA needs bitsandbytes, which is not installed",
            hint="pip install 'smolvideo[qlora]'",
        ) from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["model.vision_model", "model.connector", "lm_head"],
    )


_WORD = re.compile(r"[^\W\d_]")


_WORLD_SCENES = 300
"""Scenes whose questions and answers have every token of nano's own texts, but for rare ones."""


def untrained_rows(checkpoint: Checkpoint, samples: Sequence[Sample]) -> list[int]:
    """Return the tokens of answers whose rows of the embedding training never reached.

    Only nano has such rows: a tied head can hardly say these tokens while the rows are frozen.
    Empty for published checkpoints.
    """
    if not checkpoint.is_nano:
        return []
    if not read_json(checkpoint.folder / "config.json").get("tie_word_embeddings"):
        return []
    random, known = Random(0), {*checkpoint.special_tokens.values()}
    for _ in range(_WORLD_SCENES):
        scene = sample_scene(random, side="trained")
        for question in ask_about(scene, random):
            for text in (question.text, f" {question.answer}"):
                known.update(checkpoint.text_tokenizer.encode(text, add_special_tokens=False).ids)
    said = {target for sample in samples for target in sample.targets if target != IGNORED}
    return sorted(one for one in said - known if _WORD.search(_text(checkpoint, one)))


def _text(checkpoint: Checkpoint, token: int) -> str:
    text: str = checkpoint.text_tokenizer.decode([token])
    return text
