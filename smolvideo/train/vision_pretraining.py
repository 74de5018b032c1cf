"""Vision pretraining: the vision tower and the connector learn dense labels.

The label heads are discarded afterwards; the features remain: each patch encodes what it shows,
each token encodes which objects have their centre in its cell, and where.

Before answering, the connector's output is centered and scaled. After vision pretraining all image
tokens are nearly the same vector, a hundred times longer than a word's embedding: the label heads
only use the differences. The decoder gets the differences alone, at a norm near that of its layers'
residual updates.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.network import NetworkConfig, SmolVLM
from smolvideo.train.attention_supervision import LetterProbe
from smolvideo.train.image_batches import PATCH_LABELS, TOKEN_LABELS, LabelledImages
from smolvideo.train.world.scene import BACKGROUNDS


class DenseLabelHeads(nn.Module):
    """Linear heads on patches ``[N, P, D_vision]`` and tokens ``[N, T, D_text]``."""

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        width = network.text.hidden_size
        self.patch_look = nn.Linear(network.vision.hidden_size, len(PATCH_LABELS))
        self.token_norm = nn.RMSNorm(width)
        self.token_background = nn.Linear(width, len(BACKGROUNDS))
        self.token_present = nn.Linear(width, len(TOKEN_LABELS))
        self.token_place = nn.Linear(width, len(TOKEN_LABELS) * 2)
        self.token_radius = nn.Linear(width, len(TOKEN_LABELS))

    def loss(self, patches: Tensor, tokens: Tensor, labels: LabelledImages) -> Tensor:
        """Sum of five losses, each of order one at the start."""
        tokens = self.token_norm(tokens)
        look = F.cross_entropy(
            self.patch_look(patches).float().flatten(0, 1), labels.patches.flatten()
        )
        backgrounds = labels.backgrounds.unsqueeze(1).expand(-1, tokens.shape[1])
        background = F.cross_entropy(
            self.token_background(tokens).float().flatten(0, 1), backgrounds.flatten()
        )
        present = F.binary_cross_entropy_with_logits(
            self.token_present(tokens).float(), labels.present
        )
        place = self.token_place(tokens).float().view(*labels.positions.shape)
        distance = (place - labels.positions).abs().sum(-1)
        things = labels.present.sum().clamp(min=1)
        place_loss = (distance * labels.present).sum() / things
        off = (self.token_radius(tokens).float() - labels.radii).abs()
        radius_loss = (off * labels.present).sum() / things
        return look + background + 60 * present + 3 * place_loss + 6 * radius_loss


class TrainableNano(nn.Module):
    """The network with its auxiliary heads: dense labels and the letter probe."""

    def __init__(self, network: NetworkConfig) -> None:
        super().__init__()
        self.network = SmolVLM(network)
        self.heads = DenseLabelHeads(network)
        self.letter_probe = LetterProbe(network.text.hidden_size)


@torch.no_grad()
def dense_label_accuracy(student: TrainableNano, labels: LabelledImages) -> dict[str, float]:
    """Accuracies: ``cells`` that hold an object, and ``patches`` on an object."""
    heads = student.heads
    patches = student.network.model.vision_model(labels.pixels)
    tokens = heads.token_norm(student.network.model.connector(patches))
    said = heads.token_present(tokens) > 0
    on_thing = labels.patches > 0
    patch_right = heads.patch_look(patches).argmax(-1) == labels.patches
    occupied = labels.present.any(-1)
    exact = (said == labels.present.bool()).all(-1)
    return {
        "cells": exact[occupied].float().mean().item(),
        "patches": patch_right[on_thing].float().mean().item(),
    }


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
