"""Connector: pixel shuffle, and a linear projection to the decoder's width."""

from torch import Tensor, nn

from smolvideo.models.network_config import NetworkConfig
from smolvideo.network.linear import Linear


def pixel_shuffle(x: Tensor, scale_factor: int) -> Tensor:
    """``[N, P, D]`` → ``[N, P / s², D · s²]``: concatenate each s × s square of patches.

    The order inside a token is row by row, as in Idefics3 (arXiv 2408.12637, §2.2).
    """
    n, patches, width = x.shape
    side = int(patches**0.5)
    s = scale_factor
    x = x.reshape(n, side // s, s, side // s, s, width)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, patches // s**2, width * s**2)


class ModalityProjection(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.vision.hidden_size * config.scale_factor**2
        self.proj = Linear(width, config.text.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Connector(nn.Module):
    """``[N, P, D_vision]`` → ``[N, T, D_text]``: pixel shuffle, one linear layer, no bias."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.scale_factor = config.scale_factor
        self.modality_projection = ModalityProjection(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.modality_projection(pixel_shuffle(x, self.scale_factor))
