"""Center and scale the connector's output between vision pretraining and answering.

After vision pretraining all image tokens are nearly the same vector, a hundred times longer than a
word's embedding: the label heads only use the differences. The decoder gets the differences alone,
at a norm near that of its layers' residual updates.
"""

import torch
from torch import Tensor

from smolvideo.network import SmolVLM

TOKEN_NORM = 10.0
"""Mean norm of an image token: several times that of a trained word's embedding, about that of a
layer's residual update. With shorter tokens the connector's weights are so small that its next
steps destroy them."""
MIN_BIAS_SUM = 0.1


@torch.no_grad()
def center_connector(network: SmolVLM, pixels: Tensor) -> None:
    """Shift and scale the connector so that its tokens of ``pixels`` ``[N, 3, S, S]`` have mean
    zero and mean norm ``TOKEN_NORM``; their differences keep their proportions.

    The connector has no bias. But the tower ends in a layer norm: for its outputs x, the sum of
    (x − bias) / weight is zero, so the sum of x / weight is the same for all outputs, and a weight
    applied to it acts as a bias. If that sum is about zero, too, as in an untrained tower, only the
    norm changes.
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
