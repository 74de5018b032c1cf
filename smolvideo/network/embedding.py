"""A table of vectors."""

from torch import nn


class Embedding(nn.Embedding):
    """``[...]`` ids → ``[..., D]``."""

    def reset_parameters(self) -> None:
        """Draw the numbers, where there is memory for them.

        Without memory torch draws through its compiler, whose import takes a second.
        """
        if not self.weight.is_meta:
            super().reset_parameters()
