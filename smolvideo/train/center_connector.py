"""Between seeing and answering: what all pictures' tokens have in common is taken away.

Seeing leaves tokens that are nearly the same vector, a hundred times longer than a word's: heads
that read what differs do not mind. The decoder is given what differs, at a length near that of what
its own layers add.
"""

import torch
from torch import Tensor

from smolvideo.network import SmolVLM

TOKEN_NORM = 10.0
"""Mean length of a picture's token: some times that of a trained word's, about that of what a layer
adds. With shorter ones the connector's weights are so small that its next steps destroy them."""
MIN_BIAS_SUM = 0.1


@torch.no_grad()
def center_connector(network: SmolVLM, pixels: Tensor) -> None:
    """Change the connector so that its tokens of these pictures ``[N, 3, S, S]`` have mean zero and
    the mean length ``TOKEN_NORM``, and differ from each other as before.

    The connector has no bias. But the tower ends in a layer norm: for its outputs x, the sum of
    (x − bias) / weight is zero, so that the sum of x / weight is the same for all of them, and what
    is multiplied with it acts as a bias. Where that sum is about zero, too, as in a tower that has
    learned nothing yet, only the length changes.
    """
    model = network.model
    norm, projection = model.vision_model.post_layernorm, model.connector.modality_projection.proj
    tokens = model.connector(model.vision_model(pixels)).flatten(0, 1)
    mean = tokens.mean(0)
    length = (tokens - mean).norm(dim=-1).mean()
    total = (norm.bias / norm.weight).sum()
    if total.abs() > MIN_BIAS_SUM:
        patches = projection.in_features // len(norm.weight)
        one = (1 / norm.weight / total).repeat(patches) / patches
        projection.weight.sub_(torch.outer(mean, one))
    projection.weight.mul_(TOKEN_NORM / length)
