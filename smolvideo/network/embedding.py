"""Embedding table that can be built on the meta device."""

from torch import nn


class Embedding(nn.Embedding):
    """``[...]`` ids → ``[..., D]``."""

    def reset_parameters(self) -> None:
        """Initialize the weights, unless they are on the meta device.

        There torch initializes through its compiler, whose import takes a second.
        """
        if not self.weight.is_meta:
            super().reset_parameters()
