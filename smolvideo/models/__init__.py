"""Model checkpoints: registry of published ones, local cache, resolution and download."""

from smolvideo.models.checkpoint import Checkpoint, checkpoint_size_bytes, read_checkpoint
from smolvideo.models.hub import LocalCheckpoint, list_local, pull
from smolvideo.models.registry import MODELS, ModelSpec, PromptFormat, find_model, lookup_model
from smolvideo.models.resolve import open_checkpoint

__all__ = [
    "MODELS",
    "Checkpoint",
    "LocalCheckpoint",
    "ModelSpec",
    "PromptFormat",
    "checkpoint_size_bytes",
    "find_model",
    "list_local",
    "lookup_model",
    "open_checkpoint",
    "pull",
    "read_checkpoint",
]
