"""SmolVLM in plain torch modules: vision tower, connector, decoder.

Parameter names are those of the published checkpoints, so a state dict is a checkpoint. Only
engines and training import this package. It knows nothing of videos and prompts, and reads only the
weights of a checkpoint from files (``loading.load_network``).

Names are imported on first use: the process that compiles ``kernels`` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smolvideo.models.network_config import NetworkConfig, TextConfig, VisionConfig
    from smolvideo.network.kv_cache import BatchedKVCache, BatchedPagedKVCache, KVCache
    from smolvideo.network.model import SmolVLM

__all__ = [
    "BatchedKVCache",
    "BatchedPagedKVCache",
    "KVCache",
    "NetworkConfig",
    "SmolVLM",
    "TextConfig",
    "VisionConfig",
]

_LAZY_IMPORTS = {
    "BatchedKVCache": "smolvideo.network.kv_cache",
    "BatchedPagedKVCache": "smolvideo.network.kv_cache",
    "KVCache": "smolvideo.network.kv_cache",
    "NetworkConfig": "smolvideo.models.network_config",
    "SmolVLM": "smolvideo.network.model",
    "TextConfig": "smolvideo.models.network_config",
    "VisionConfig": "smolvideo.models.network_config",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY_IMPORTS:
        return getattr(import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
