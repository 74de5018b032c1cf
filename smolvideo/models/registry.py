"""Registry of the published SmolVLM checkpoints: names, hub ids, sizes and prompt layouts.

The figures describe the hub's files, for display; loading reads the checkpoint's own config.json
(``smolvideo.models.checkpoint``).
"""

import difflib
from dataclasses import dataclass
from typing import Literal, get_args

from smolvideo.errors import ModelError
from smolvideo.models.network_config import NetworkConfig, TextConfig, VisionConfig

PromptFormat = Literal["smolvlm", "smolvlm2", "nano"]
"""Prompt layout: SmolVLM v1's 50-frame prompt, the time-stamped prompt of SmolVLM2's processor, or
the bundled model's short one."""

LAYOUTS: tuple[PromptFormat, ...] = get_args(PromptFormat)

_ORGANISATION = "HuggingFaceTB"


@dataclass(frozen=True)
class ModelSpec:
    """A published checkpoint, or the bundled one.

    ``download_bytes`` is the size of the weights; the tokenizer adds 3.5 MB. ``tokens_per_frame``
    is the number of tokens per video frame in the checkpoint's own layout, with its time stamp.
    ``network`` are the hyperparameters, for what is computed before anything is downloaded. The
    figures are None for the bundled model; they are in its config.json.
    """

    name: str
    repo_id: str | None
    layout: PromptFormat
    note: str
    parameters: int | None = None
    download_bytes: int | None = None
    context_tokens: int | None = None
    tokens_per_frame: int | None = None
    stored_dtype: str | None = None
    network: NetworkConfig | None = None

    @property
    def is_bundled(self) -> bool:
        """Whether the checkpoint is part of the package and never downloaded."""
        return self.repo_id is None


@dataclass(frozen=True)
class _Size:
    """Figures shared by the checkpoints of one generation and size; ``parameters`` are counted from
    the weights, not quoted."""

    layout: PromptFormat
    parameters: int
    bytes_per_parameter: int
    tokens_per_frame: int
    network: NetworkConfig

    def spec(self, name: str, repo: str, note: str) -> ModelSpec:
        return ModelSpec(
            name=name,
            repo_id=f"{_ORGANISATION}/{repo}",
            layout=self.layout,
            note=note,
            parameters=self.parameters,
            download_bytes=self.parameters * self.bytes_per_parameter,
            context_tokens=self.network.text.max_position_embeddings,
            tokens_per_frame=self.tokens_per_frame,
            stored_dtype="bfloat16" if self.bytes_per_parameter == 2 else "float32",
            network=self.network,
        )


_BASE_TOWER = VisionConfig(512, 16, 768, 3072, 12, 12)
_LARGE_TOWER = VisionConfig(384, 14, 1152, 4304, 27, 16)


def _network(vision: VisionConfig, text: TextConfig, scale_factor: int) -> NetworkConfig:
    return NetworkConfig(vision, text, scale_factor, tie_word_embeddings=False)


# The hyperparameters in the checkpoints' config.json.
_256M = _network(_BASE_TOWER, TextConfig(49_280, 576, 1536, 30, 9, 3, 64, 8192, 1e5), 4)
_500M = _network(_BASE_TOWER, TextConfig(49_280, 960, 2560, 32, 15, 5, 64, 8192, 1e5), 4)
_2B_V1 = _network(
    _LARGE_TOWER, TextConfig(49_155, 2048, 8192, 24, 32, 32, 64, 16_384, 273_768.0), 3
)
_2B_V2 = _network(_LARGE_TOWER, TextConfig(49_280, 2048, 8192, 24, 32, 32, 64, 8192, 1.3e5), 3)

_V1_2B = _Size("smolvlm", 2_246_272_880, 2, 88, _2B_V1)
_V1_500M = _Size("smolvlm", 507_482_304, 2, 67, _500M)
_V1_256M = _Size("smolvlm", 256_484_928, 2, 67, _256M)
_V2_2B = _Size("smolvlm2", 2_246_784_880, 4, 94, _2B_V2)
_V2_500M = _Size("smolvlm2", 507_482_304, 4, 77, _500M)
_V2_256M = _Size("smolvlm2", 256_484_928, 4, 77, _256M)

_SPECS = (
    ModelSpec("nano", None, "nano", "bundled; for trying and testing, knows only drawn videos"),
    _V2_256M.spec("smolvlm2-256m", "SmolVLM2-256M-Video-Instruct", "smallest that watches video"),
    _V2_500M.spec("smolvlm2-500m", "SmolVLM2-500M-Video-Instruct", "small, better at video"),
    _V2_2B.spec("smolvlm2-2.2b", "SmolVLM2-2.2B-Instruct", "best of the family at video"),
    _V1_2B.spec("smolvlm-2.2b", "SmolVLM-Instruct", "v1: longest context, 50 frames and more"),
    _V1_2B.spec("smolvlm-2.2b-synthetic", "SmolVLM-Synthetic", "v1, tuned on synthetic data"),
    _V1_2B.spec("smolvlm-2.2b-base", "SmolVLM-Base", "v1, a base for fine-tuning"),
    _V1_500M.spec("smolvlm-500m", "SmolVLM-500M-Instruct", "v1, small, for pictures"),
    _V1_500M.spec("smolvlm-500m-base", "SmolVLM-500M-Base", "v1, small base for fine-tuning"),
    _V1_256M.spec("smolvlm-256m", "SmolVLM-256M-Instruct", "v1, smallest, for pictures"),
    _V1_256M.spec("smolvlm-256m-base", "SmolVLM-256M-Base", "v1, smallest base for fine-tuning"),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}
"""All named checkpoints, in the order of tables."""


def _aliases(spec: ModelSpec) -> tuple[str, ...]:
    if spec.repo_id is None:
        return (spec.name,)
    return (spec.name, spec.repo_id.lower(), spec.repo_id.split("/")[1].lower())


AUTO = "auto"
"""The choice among the checkpoints on this machine, in place of the name of one."""


def is_auto(name: str) -> bool:
    """Whether ``name`` is ``auto``, case-insensitive as all names."""
    return name.strip().lower() == AUTO


def lookup_model(name: str) -> ModelSpec | None:
    """Return the checkpoint with this short name, hub id, or last part of a hub id.

    Case-insensitive. None if there is none.
    """
    wanted = name.strip().lower()
    return next((spec for spec in _SPECS if wanted in _aliases(spec)), None)


def find_model(name: str) -> ModelSpec:
    """Return the same as ``lookup_model``; ModelError with a suggestion for an unknown name."""
    spec = lookup_model(name)
    if spec is None:
        raise unknown_model(name)
    return spec


def unknown_model(name: str) -> ModelError:
    """Return the error for a name that is no registered name, folder or hub id."""
    if is_auto(name):
        return ModelError(
            "`auto` is no model, but the choice of one for a video",
            hint="name one of `smolvideo models list`",
        )
    near = difflib.get_close_matches(
        name.strip().lower(),
        [known for spec in _SPECS for known in _aliases(spec)],
        n=1,
        cutoff=0.6,
    )
    size = f"smolvlm2-{name.strip().lower()}"  # as the choice of a model for a video names it
    spec = lookup_model(near[0]) if near else lookup_model(size)
    guess = f"did you mean `{spec.name}`? " if spec else ""
    return ModelError(
        f"unknown model `{name}`",
        hint=f"{guess}`smolvideo models list` shows the names; a hub id `OWNER/NAME` "
        "or a folder with a checkpoint works too",
    )
