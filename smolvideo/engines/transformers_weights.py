"""Load a checkpoint folder as a network of transformers: complete, silent, in the chosen dtype."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from smolvideo.engines.torch_errors import LOADING, first_line, is_out_of_memory, wrap_torch_errors
from smolvideo.errors import ModelError
from smolvideo.models import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.tensors import check_tensors
from smolvideo.models.weights import COMPUTED_WEIGHTS, format_weight_names, read_header

if TYPE_CHECKING:
    import torch


def load_network(checkpoint: Checkpoint, device: "torch.device", dtype: "torch.dtype") -> Any:
    """Load the network of ``checkpoint`` on ``device``, in inference mode.

    Raises ModelError where weights are missing, left over, of another shape or unreadable, and
    where memory does not suffice.
    """
    config = NetworkConfig.from_json(read_json(checkpoint.folder / "config.json"))
    assert checkpoint.weights is not None
    headers = {file: read_header(file) for file in checkpoint.weights.files}
    check_tensors(checkpoint.folder, config, headers)
    with quiet_transformers(), wrap_torch_errors(str(device), LOADING):
        try:
            network, report = _network_class(checkpoint).from_pretrained(
                checkpoint.folder,
                config=_network_config(checkpoint, config),
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                attn_implementation="sdpa",
                ignore_mismatched_sizes=True,  # reported with the other faults
                output_loading_info=True,
            )
        # What transformers, huggingface_hub and safetensors raise has no common base.
        except Exception as error:
            if isinstance(error, MemoryError) or is_out_of_memory(error):
                raise
            raise ModelError(
                f"broken checkpoint: cannot load `{checkpoint.folder}`: {first_line(error)}"
            ) from error
        _check_complete(checkpoint, report)
        return network.eval().requires_grad_(False).to(device)


def _network_config(checkpoint: Checkpoint, config: NetworkConfig) -> Any:
    """Convert ``config`` for transformers: only keys that were checked, and no others of the file.

    Other keys make its classes allocate memory (``num_labels`` builds a table) or load other code.
    """
    from transformers import Idefics3Config, SmolVLMConfig

    vision, text = asdict(config.vision), asdict(config.text)
    rope_theta = text.pop("rope_theta")
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": rope_theta}
    shared = {
        "tie_word_embeddings": config.tie_word_embeddings,
        "pad_token_id": checkpoint.pad_token_id,
    }
    kind = Idefics3Config if checkpoint.model_type == "idefics3" else SmolVLMConfig
    return kind(
        vision_config=vision,
        text_config={"model_type": "llama", **shared, **text},
        scale_factor=config.scale_factor,
        image_token_id=checkpoint.image_token_id,
        **shared,
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence warnings, log lines and progress bars of transformers in the block."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def _network_class(checkpoint: Checkpoint) -> Any:
    """Return the class itself, not an Auto class: those load processors that need torchvision."""
    try:
        if checkpoint.model_type == "idefics3":
            from transformers import Idefics3ForConditionalGeneration

            return Idefics3ForConditionalGeneration
        from transformers import SmolVLMForConditionalGeneration

        return SmolVLMForConditionalGeneration
    except (ImportError, RuntimeError) as error:
        # A torchvision that does not match torch makes transformers refuse every class of this
        # family.
        raise ModelError(
            f"transformers cannot load its `{checkpoint.model_type}` network: {first_line(error)}",
            hint="an installed torchvision that does not fit torch is the usual cause: "
            "`pip uninstall torchvision`",
        ) from error


def _check_complete(checkpoint: Checkpoint, report: Mapping[str, Any]) -> None:
    """Raise ModelError unless files and network have the same weights, of the same shapes."""
    faults = {
        "is missing": sorted(report["missing_keys"]),
        "has another shape than config.json says": sorted(
            mismatched[0] for mismatched in report["mismatched_keys"]
        ),
        "does not belong to this network": sorted(
            name for name in report["unexpected_keys"] if not name.endswith(COMPUTED_WEIGHTS)
        ),
    }
    told = "; ".join(
        f"{format_weight_names(names)} {fault}" for fault, names in faults.items() if names
    )
    if told or report.get("error_msgs"):
        told = told or str(report["error_msgs"][0]).split("\n")[0]
        raise ModelError(f"broken checkpoint `{checkpoint.folder}`: {told}")
