"""SmolVLM in plain torch modules: vision tower, connector, decoder.

Parameter names are those of the published checkpoints, so a state dict is a checkpoint. Only
engines and training import this package. It knows nothing of videos and prompts, and reads only the
weights of a checkpoint from files (``model.load_network``).
"""

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
