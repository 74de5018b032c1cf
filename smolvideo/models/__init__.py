"""Model checkpoints: registry of published ones, local cache, resolution and download."""

from smolvideo.models.checkpoint import Checkpoint, checkpoint_size_bytes, read_checkpoint
from smolvideo.models.hub import check_room_for, is_offline, pull
from smolvideo.models.local_cache import LocalCheckpoint, list_local, plan_removal
from smolvideo.models.registry import (
    MODELS,
    ModelSpec,
    PromptFormat,
    find_model,
    lookup_model,
    unknown_model,
)
from smolvideo.models.resolve import open_checkpoint

__all__ = [
    "MODELS",
    "Checkpoint",
    "LocalCheckpoint",
    "ModelSpec",
    "PromptFormat",
    "check_room_for",
    "checkpoint_size_bytes",
    "find_model",
    "is_offline",
    "list_local",
    "lookup_model",
    "open_checkpoint",
    "plan_removal",
    "pull",
    "read_checkpoint",
    "unknown_model",
]
