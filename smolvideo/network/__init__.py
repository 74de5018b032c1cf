"""SmolVLM as plain torch modules: vision tower, connector, decoder.

The names of the parameters are those of the published checkpoints, so a state dict is a checkpoint.
Only engines and training import this package; it knows nothing of videos, prompts or files.
"""

from smolvideo.network.config import NetworkConfig, TextConfig, VisionConfig
from smolvideo.network.model import SmolVLM

__all__ = ["NetworkConfig", "SmolVLM", "TextConfig", "VisionConfig"]
