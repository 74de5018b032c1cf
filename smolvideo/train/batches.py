"""What one training step sees: pictures with dense labels, or videos with questions.

A batch of videos packs several questions about one video behind its frames: the frames are read
once, each question sees the frames and itself, and the positions of every question go on from the
frames'.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.frames import Images, format_timestamp
from smolvideo.network import NetworkConfig
from smolvideo.train.tokenizer import special_id
from smolvideo.train.world.draw import draw_frame, draw_moments
from smolvideo.train.world.questions import Question, ask_about, carelessly
from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, SHAPES, Scene, draw_scene

LENGTH_STEP = 32
"""Rows of tokens are padded to a multiple of this."""

LOOKS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""Every look a thing can have, in the order of the dense labels."""


@dataclass(frozen=True)
class LabelledPictures:
    """Single pictures with what every patch and every token of them should know.

    ``pixels`` ``[N, 3, S, S]``; ``backgrounds`` ``[N]``; ``patches`` ``[N, P]``: 0 for background,
    else 1 + look; ``present`` ``[N, T, looks]`` in {0, 1}: the centre of such a thing lies in the
    token's cell; ``places`` ``[N, T, looks, 2]``: where that centre is, as shares of the picture.
    """

    pixels: Tensor
    backgrounds: Tensor
    patches: Tensor
    present: Tensor
    places: Tensor


@dataclass(frozen=True)
class AskedVideos:
    """Videos of equally many frames with their questions, ready for the decoder.

    ``pixels`` ``[U, 3, S, S]``: every different picture once; ``frames`` ``[B, F]`` indexes it.
    ``token_ids``, ``positions``, ``targets`` ``[B, L]`` (targets: the next token inside answers,
    −100 elsewhere); ``blocks`` ``[B, L]``: 0 for the frames, k for question k, −1 for padding.
    """

    pixels: Tensor
    frames: Tensor
    token_ids: Tensor
    positions: Tensor
    targets: Tensor
    blocks: Tensor
    questions: tuple[tuple[Question, ...], ...]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """``[B, 1, L, L]``: 0 where a token may look (its own block and the frames), else −inf."""
        length = self.blocks.shape[1]
        same = self.blocks.unsqueeze(2) == self.blocks.unsqueeze(1)
        to_frames = (self.blocks == 0).unsqueeze(1)
        earlier = torch.ones(length, length, dtype=torch.bool).tril()
        allowed = (same | to_frames) & earlier
        mask = torch.zeros(allowed.shape, dtype=dtype)
        return mask.masked_fill_(~allowed, torch.finfo(dtype).min).unsqueeze(1)


def to_pixels(images: Images) -> Tensor:
    """uint8 ``[N, S, S, 3]`` → float32 ``[N, 3, S, S]`` in −1…1, as every SmolVLM is fed."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5


def spoil(images: Images, random: np.random.Generator) -> Images:
    """The pictures as a codec may leave them: noisy, the colours smeared over 2 × 2 pixels."""
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


def draw_labelled_pictures(random: Random, count: int, network: NetworkConfig) -> LabelledPictures:
    """``count`` pictures of random training scenes at random moments."""
    size = network.vision.image_size
    noise = np.random.default_rng(random.getrandbits(32))
    scenes = [draw_scene(random) for _ in range(count)]
    shares = [random.random() for _ in range(count)]
    images = np.stack(
        [draw_frame(scene, share, size, size) for scene, share in zip(scenes, shares, strict=True)]
    )
    labels = [_labels(scene, share, network) for scene, share in zip(scenes, shares, strict=True)]
    patches, present, places = (
        torch.from_numpy(np.stack(part)) for part in zip(*labels, strict=True)
    )
    return LabelledPictures(
        pixels=to_pixels(np.concatenate([spoil(image[None], noise) for image in images])),
        backgrounds=torch.tensor([BACKGROUNDS.index(scene.background) for scene in scenes]),
        patches=patches,
        present=present,
        places=places,
    )


def _labels(
    scene: Scene, share: float, network: NetworkConfig
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    side = network.vision.patches_per_side
    cells = side // network.scale_factor
    patches = np.zeros((side, side), np.int64)
    present = np.zeros((cells, cells, len(LOOKS)), np.float32)
    places = np.zeros((cells, cells, len(LOOKS), 2), np.float32)
    middles = (np.arange(side) + 0.5) / side
    for thing in scene.things:
        centre = thing.centre_at(share)
        if centre is None:
            continue
        look = LOOKS.index(thing.words)
        across = np.abs(middles - centre[0]) * max(scene.aspect, 1.0) < 0.8 * thing.radius
        down = np.abs(middles - centre[1]) * max(1 / scene.aspect, 1.0) < 0.8 * thing.radius
        patches[np.ix_(down, across)] = 1 + look
        row, column = (min(int(share * cells), cells - 1) for share in (centre[1], centre[0]))
        present[row, column, look] = 1
        places[row, column, look] = centre
    return patches.ravel(), present.reshape(cells**2, -1), places.reshape(cells**2, -1, 2)


def draw_asked_videos(
    random: Random,
    *,
    videos: int,
    frames: int,
    questions: int,
    network: NetworkConfig,
    tokenizer: Tokenizer,
    held_out: bool = False,
    grey: bool = False,
) -> AskedVideos:
    """``videos`` random videos of ``frames`` frames, up to ``questions`` questions about each.

    ``grey`` replaces every picture by even grey: what can be answered then was not seen.
    """
    noise = np.random.default_rng(random.getrandbits(32))
    size = network.vision.image_size
    pixels: list[Images] = []
    frame_rows, rows, asked = [], [], []
    for _ in range(videos):
        scene = draw_scene(random, held_out=held_out, still=frames == 1)
        shares = _moments(random, frames)
        pictures, shown = draw_moments(scene, shares, size, size)
        spoilt = spoil(pictures, noise)
        frame_rows.append(np.array(shown) + sum(len(part) for part in pixels))
        pixels.append(np.full_like(spoilt, 128) if grey else spoilt)
        chosen = ask_about(scene, random)
        random.shuffle(chosen)
        chosen = [carelessly(random, question) for question in chosen[:questions]]
        seconds = random.uniform(2, 30)
        stamps = [format_timestamp(share * seconds) for share in shares] if frames > 1 else []
        rows.append(pack_questions(stamps, chosen, network.tokens_per_image, tokenizer))
        asked.append(tuple(chosen))
    # Few different lengths: torch keeps memory for every shape it has ever seen.
    longest = max(len(row.token_ids) for row in rows)
    length = math.ceil(longest / LENGTH_STEP) * LENGTH_STEP
    return AskedVideos(
        pixels=to_pixels(np.concatenate(pixels)),
        frames=torch.from_numpy(np.stack(frame_rows)),
        token_ids=_padded([row.token_ids for row in rows], length, 0),
        positions=_padded([row.positions for row in rows], length, 0),
        targets=_padded([row.targets for row in rows], length, -100),
        blocks=_padded([row.blocks for row in rows], length, -1),
        questions=tuple(asked),
    )


def _moments(random: Random, frames: int) -> list[float]:
    """Evenly spaced shares of the duration, from the first frame to the last."""
    if frames == 1:
        return [random.random()]
    end = 1 - random.uniform(0, 0.5) / frames
    return [end * place / (frames - 1) for place in range(frames)]


@dataclass(frozen=True)
class PackedRow:
    """One video's tokens, with the position, the target and the block of each."""

    token_ids: list[int]
    positions: list[int]
    targets: list[int]
    blocks: list[int]


def pack_questions(
    stamps: list[str], questions: list[Question], tokens_per_image: int, tokenizer: Tokenizer
) -> PackedRow:
    """The frames once, then every question with its answer, in the layout ``nano``.

    Without stamps it is one still picture.
    """
    image = [special_id(tokenizer, "<image>")] * tokens_per_image
    end = special_id(tokenizer, "<end_of_utterance>")
    ids = [special_id(tokenizer, "<|im_start|>"), *tokenizer.encode("User:").ids]
    if not stamps:
        ids += image
    for stamp in stamps:
        ids += tokenizer.encode(f"\n{stamp}:").ids + image
    ids += tokenizer.encode("\n").ids
    start = len(ids)
    row = PackedRow(ids, list(range(start)), [-100] * start, [0] * start)
    for number, question in enumerate(questions, start=1):
        asked = [*tokenizer.encode(question.text).ids, end, *tokenizer.encode("\nAssistant:").ids]
        answer = [*tokenizer.encode(f" {question.answer}").ids, end]
        block = asked + answer[:-1]
        row.token_ids.extend(block)
        row.positions.extend(range(start, start + len(block)))
        row.targets.extend([-100] * (len(asked) - 1) + answer)
        row.blocks.extend([number] * len(block))
    return row


def _padded(rows: list[list[int]], length: int, value: int) -> Tensor:
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])
