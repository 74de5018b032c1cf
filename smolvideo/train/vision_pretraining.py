"""Vision pretraining on single images with dense labels, for the tower and the connector.

The label heads are discarded afterwards; the features remain: each patch encodes what it shows,
each token encodes which objects have their centre in its cell, and where.

Before answering, the connector's output is centered and scaled. After vision pretraining all image
tokens are nearly the same vector, a hundred times longer than a word's embedding: the label heads
only use the differences. The decoder gets the differences alone, at a norm near that of its layers'
residual updates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from smolvideo.frames import Images
from smolvideo.network import NetworkConfig, SmolVLM
from smolvideo.train.attention_supervision import LetterProbe
from smolvideo.train.world.looks import sample_training_look
from smolvideo.train.world.render import caption_box, render_frame
from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, SHAPES, WORDS, Caption, Scene
from smolvideo.train.world.scene_sampler import sample_scene

OBJECT_CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""Every colour and shape of an object, in the order of the dense labels."""
GLYPHS = tuple(sorted({*"0123456789", *"".join(WORDS)}))
"""Every character that captions contain."""
PATCH_LABELS = ("background", *OBJECT_CLASSES, *GLYPHS)
"""Classes of a patch."""
TOKEN_LABELS = (
    *OBJECT_CLASSES,
    *(f"{place} {digit}" for place in ("tens", "ones") for digit in range(10)),
    *WORDS,
)
"""Classes with their centre in a token's cell: objects, digits by decimal place, whole words."""


@dataclass(frozen=True)
class LabelledImages:
    """Single images with labels for every patch and every token.

    ``pixels`` ``[N, 3, S, S]``; ``backgrounds`` ``[N]``; ``patches`` ``[N, P]`` indexes
    ``PATCH_LABELS``; ``present`` ``[N, T, labels]`` in {0, 1}, one for each of ``TOKEN_LABELS``:
    whether the centre of such an object is in the token's cell; ``positions``
    ``[N, T, labels, 2]``: that centre as shares of the image; ``radii`` ``[N, T, labels]``: the
    radius as a share of the short side, 0 for text.
    """

    pixels: Tensor
    backgrounds: Tensor
    patches: Tensor
    present: Tensor
    positions: Tensor
    radii: Tensor


def normalize_images(images: Images) -> Tensor:
    """Convert uint8 ``[N, S, S, 3]`` to float32 ``[N, 3, S, S]`` in −1…1, SmolVLM's input."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5


def add_codec_noise(images: Images, random: np.random.Generator) -> Images:
    """Simulate codec artefacts: noise, and chroma averaged over 2 × 2 pixels (4:2:0)."""
    spoilt = images.astype(np.float32)
    if random.random() < 0.5:
        n, height, width, _ = images.shape
        coarse = spoilt.reshape(n, height // 2, 2, width // 2, 2, 3).mean(axis=(2, 4))
        smeared = coarse.repeat(2, axis=1).repeat(2, axis=2)
        spoilt += smeared - smeared.mean(axis=3, keepdims=True)
        spoilt -= images - images.mean(axis=3, keepdims=True)
    spoilt += random.uniform(0, 4) * random.standard_normal(spoilt.shape, dtype=np.float32)
    spoilt += random.uniform(-6, 6)
    levels: Images = np.clip(spoilt + 0.5, 0, 255).astype(np.uint8)
    return levels


def make_labelled_images(
    random: Random, count: int, network: NetworkConfig, *, written: float = 0.0
) -> LabelledImages:
    """Render ``count`` images of random training scenes at random moments.

    At least the share ``written`` of them contains a word or a number.
    """
    size = network.vision.image_size
    noise = np.random.default_rng(random.getrandbits(32))
    scenes = [_scene_to_see(random, written) for _ in range(count)]
    shares = [random.random() for _ in range(count)]
    looks = [sample_training_look(random, len(scene.things)) for scene in scenes]
    images = np.stack(
        [
            render_frame(scene, share, size, size, look)
            for scene, share, look in zip(scenes, shares, looks, strict=True)
        ]
    )
    labels = [_labels(scene, share, network) for scene, share in zip(scenes, shares, strict=True)]
    patches, present, places, radii = (
        torch.from_numpy(np.stack(part)) for part in zip(*labels, strict=True)
    )
    return LabelledImages(
        pixels=normalize_images(
            np.concatenate([add_codec_noise(image[None], noise) for image in images])
        ),
        backgrounds=torch.tensor(
            [
                BACKGROUNDS.index(scene.background_at(share))
                for scene, share in zip(scenes, shares, strict=True)
            ]
        ),
        patches=patches,
        present=present,
        positions=places,
        radii=radii,
    )


def _scene_to_see(random: Random, written: float) -> Scene:
    must = random.random() < written
    while True:
        scene = sample_scene(random)
        if scene.caption is not None or not must:
            return scene


def _labels(
    scene: Scene, share: float, network: NetworkConfig
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    side = network.vision.patches_per_side
    cells = side // network.scale_factor
    patches = np.zeros((side, side), np.int64)
    present = np.zeros((cells, cells, len(TOKEN_LABELS)), np.float32)
    places = np.zeros((cells, cells, len(TOKEN_LABELS), 2), np.float32)
    radii = np.zeros((cells, cells, len(TOKEN_LABELS)), np.float32)
    middles = (np.arange(side) + 0.5) / side

    def stands(label: str, centre: tuple[float, float], radius: float = 0.0) -> None:
        place = TOKEN_LABELS.index(label)
        row, column = (min(int(share * cells), cells - 1) for share in (centre[1], centre[0]))
        present[row, column, place] = 1
        places[row, column, place] = centre
        radii[row, column, place] = radius

    for thing in scene.things:
        centre = thing.centre_at(share)
        if centre is None:
            continue
        look = f"{thing.colour_at(share)} {thing.shape}"
        # Even the smallest object covers the patch that its centre is in.
        reach_x = max(0.8 * thing.radius / max(scene.aspect, 1.0), 0.5 / side)
        reach_y = max(0.8 * thing.radius * min(scene.aspect, 1.0), 0.5 / side)
        across = np.abs(middles - centre[0]) <= reach_x
        down = np.abs(middles - centre[1]) <= reach_y
        patches[np.ix_(down, across)] = PATCH_LABELS.index(look)
        stands(look, centre, thing.radius)
    if scene.caption is not None:
        _label_text(scene.caption, scene.aspect, patches, stands)
    flat = cells**2
    return (
        patches.ravel(),
        present.reshape(flat, -1),
        places.reshape(flat, -1, 2),
        radii.reshape(flat, -1),
    )


def _label_text(
    caption: Caption,
    aspect: float,
    patches: NDArray[np.int64],
    stands: Callable[[str, tuple[float, float]], None],
) -> None:
    """Label every patch on the text line with the letter at the patch's centre."""
    side = len(patches)
    left, top, right, bottom = (edge / 960 for edge in caption_box(caption, aspect, 960, 960))
    middles = (np.arange(side) + 0.5) / side
    rows = np.flatnonzero((middles > top) & (middles < bottom))
    for column in np.flatnonzero((middles > left) & (middles < right)):
        letter = int((middles[column] - left) / (right - left) * len(caption.text))
        patches[rows, column] = PATCH_LABELS.index(caption.text[letter])
    centre = ((left + right) / 2, (top + bottom) / 2)
    if caption.is_number:
        stands(f"tens {caption.text[0]}", ((3 * left + right) / 4, centre[1]))
        stands(f"ones {caption.text[1]}", ((left + 3 * right) / 4, centre[1]))
    else:
        stands(caption.text, centre)


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
