"""Resizing of frames and images: pixels of the published pipelines, and extreme shapes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.toy_checkpoint import write_json, write_toy_checkpoint

from smolvideo.errors import PromptError
from smolvideo.frames import FrameBatch, Images, VideoMetadata
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.prompt import Message, PromptOptions, frame_transform, pack_prompt
from smolvideo.prompt import resize as geometry_module
from smolvideo.prompt.resize import (
    Tiles,
    lanczos_pil,
    lanczos_torch,
    size_at_longest_edge,
    tiles_of,
    torch_has_lanczos,
)

SHAPES = [(360, 640), (480, 360), (100, 100), (720, 1280), (1, 1), (1, 900), (900, 2), (37, 211)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Return a toy of each layout with squares of 32 pixels, and one with the sizes of
    SmolVLM2-256M.
    """
    folder = tmp_path_factory.mktemp("toys")
    made = {
        "smolvlm": write_toy_checkpoint(folder / "v1", model_type="idefics3"),
        "smolvlm2": write_toy_checkpoint(folder / "v2"),
        "nano": write_toy_checkpoint(folder / "nano", layout="nano"),
        "full": write_toy_checkpoint(
            folder / "full", scale_factor=4, vision_config={"image_size": 512, "patch_size": 16}
        ),
    }
    write_json(folder / "full" / "preprocessor_config.json", {"size": {"longest_edge": 2048}})
    return {name: open_checkpoint(str(path)) for name, path in made.items()}


def scene(height: int, width: int, seed: int = 0) -> Images:
    """Return an image with gradients, edges and noise."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 / height, columns * 255 / width, (rows * columns) % 256], axis=-1)
    image += np.random.default_rng(seed).integers(-20, 20, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def distance(one: Images, other: Images) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def two_steps(frame: Images, first: tuple[int, int], side: int) -> Images:
    """Apply the two resizes of SmolVLMVideoProcessor with torch alone."""
    pixels = torch.from_numpy(frame)[None].permute(0, 3, 1, 2)
    for size in (first, (side, side)):
        if tuple(pixels.shape[-2:]) != size:
            pixels = torch.nn.functional.interpolate(
                pixels, size=list(size), mode="lanczos", antialias=True, align_corners=False
            )
    return pixels[0].permute(1, 2, 0).numpy()


needs_lanczos = pytest.mark.skipif(not torch_has_lanczos(), reason="this torch has no lanczos")


@needs_lanczos
@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((360, 640), (1152, 2048)),
        ((480, 360), (2048, 1536)),
        ((100, 100), (2048, 2048)),
        ((720, 1280), (1152, 2048)),
        ((37, 211), (360, 2048)),  # int(2048 / (211 / 37)) = 359, rounded up to even
    ],
)
def test_smolvlm2_resize_has_two_steps(
    checkpoints: dict[str, Checkpoint], shape: tuple[int, int], first: tuple[int, int]
) -> None:
    name, fit = frame_transform(checkpoints["full"])
    frame = scene(*shape)
    assert name == "official"
    assert np.array_equal(fit(frame), two_steps(frame, first, 512))


@needs_lanczos
def test_smolvlm2_pixels_are_unchanged(checkpoints: dict[str, Checkpoint]) -> None:
    """Grey levels at sixteen positions from torch 2.13, with a tolerance of one for other CPUs."""
    square = frame_transform(checkpoints["full"])[1](scene(90, 160))
    golden = [
        [93.0, 85.33, 99.0, 116.67],
        [88.0, 140.33, 142.67, 133.0],
        [77.67, 120.33, 181.0, 166.67],
        [122.67, 149.67, 162.33, 197.33],
    ]
    assert np.abs(square[64::128, 64::128].mean(axis=-1) - golden).max() <= 1


@needs_lanczos
@pytest.mark.parametrize("shape", [(360, 640), (480, 360), (100, 100)])
def test_lanczos_fallback_is_within_two_levels(
    checkpoints: dict[str, Checkpoint], shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = scene(*shape)
    exact = frame_transform(checkpoints["full"])[1](frame)
    monkeypatch.setattr(geometry_module, "torch_has_lanczos", lambda: False)
    by_pillow = frame_transform(checkpoints["full"])[1](frame)
    assert 0 < distance(exact, by_pillow) <= 2


@needs_lanczos
def test_two_step_resize_differs_from_a_direct_one(checkpoints: dict[str, Checkpoint]) -> None:
    frame = scene(360, 640)
    official = frame_transform(checkpoints["full"])[1](frame)
    direct = frame_transform(checkpoints["full"], PromptOptions(geometry="direct"))[1](frame)
    assert distance(official, direct) > 2


def test_v1_crops_the_centre(checkpoints: dict[str, Checkpoint]) -> None:
    """Of 16:9 the outer 7/16 of the width are cropped; of a tall image top and bottom."""
    fit = frame_transform(checkpoints["smolvlm"])[1]
    wide = np.zeros((90, 160, 3), np.uint8)
    wide[:, :30] = wide[:, -30:] = 255
    assert fit(wide)[:, 4:-4].max() < 20
    wide[:, 40:120] = 200
    assert abs(int(fit(wide)[16, 16, 0]) - 200) <= 1
    tall = np.swapaxes(wide, 0, 1).copy()
    assert np.array_equal(fit(tall), np.swapaxes(fit(wide), 0, 1))


def test_v1_crops_extreme_aspect_ratios(checkpoints: dict[str, Checkpoint]) -> None:
    strip = np.zeros((8, 3000, 3), np.uint8)
    strip[:, 1496:1504] = (10, 200, 90)
    fit = frame_transform(checkpoints["smolvlm"])[1]
    assert np.array_equal(fit(strip), np.broadcast_to(np.uint8([10, 200, 90]), (32, 32, 3)))
    assert fit(np.swapaxes(strip, 0, 1)).shape == (32, 32, 3)


def test_v1_resizes_through_384(checkpoints: dict[str, Checkpoint]) -> None:
    frame = scene(240, 320)
    image = Image.fromarray(frame).resize((512, 384), Image.Resampling.LANCZOS)
    expected = image.crop((64, 0, 448, 384)).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(frame_transform(checkpoints["smolvlm"])[1](frame), np.asarray(expected))


def test_direct_geometry_is_one_resize(checkpoints: dict[str, Checkpoint]) -> None:
    frame = scene(240, 320)
    expected = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.LANCZOS))
    for layout in ("smolvlm", "smolvlm2", "nano"):
        name, fit = frame_transform(checkpoints[layout], PromptOptions(geometry="direct"))
        assert name == "direct"
        assert np.array_equal(fit(frame), expected)
    assert np.array_equal(frame_transform(checkpoints["nano"])[1](frame), expected)


def test_pad_geometry_keeps_the_aspect_ratio(checkpoints: dict[str, Checkpoint]) -> None:
    name, fit = frame_transform(checkpoints["smolvlm2"], PromptOptions(geometry="pad"))
    assert name == "pad"
    square = fit(np.full((90, 160, 3), 200, np.uint8))
    assert (square[:7] == 0).all()
    assert (square[-7:] == 0).all()
    assert (square[7:25] == 200).all()
    tall = fit(np.full((160, 80, 3), 200, np.uint8))
    assert (tall[:, :8] == 0).all()
    assert (tall[:, 8:24] == 200).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["smolvlm", "smolvlm2", "nano"])
@pytest.mark.parametrize("geometry", ["official", "direct", "pad"])
def test_every_shape_becomes_a_square(  # type: ignore[no-untyped-def]
    checkpoints: dict[str, Checkpoint], layout: str, geometry, shape: tuple[int, int]
) -> None:
    square = frame_transform(checkpoints[layout], PromptOptions(geometry=geometry))[1](
        scene(*shape)
    )
    assert square.shape == (32, 32, 3)
    assert square.dtype == np.uint8


@pytest.mark.parametrize("resize", [lanczos_pil, pytest.param(lanczos_torch, marks=needs_lanczos)])
def test_resizing_takes_views_and_leaves_the_frame_unchanged(
    resize: Callable[[Images, tuple[int, int]], Images],
) -> None:
    frame = scene(40, 60)
    before = frame.copy()
    flipped = frame[::-1, ::2]
    assert np.array_equal(resize(flipped, (20, 20)), resize(flipped.copy(), (20, 20)))
    frame.setflags(write=False)
    assert resize(frame, (20, 10)).shape == (20, 10, 3)
    assert np.array_equal(frame, before)


# ------------------------------------------------------------------------ tiles


def tiles_of_transformers(height: int, width: int, edge: int, side: int) -> Tiles:
    """Return the image's tile grid in transformers, without pixels.

    (Its ``get_number_of_image_patches`` ignores the aspect ratio and is off by a row at times.)
    """
    from transformers.models.smolvlm import image_processing_pil_smolvlm as pil

    class Shapes(pil.SmolVLMImageProcessorPil):
        def resize(self, image, size, resample=None):  # type: ignore[no-untyped-def]
            shape = (size.height, size.width)
            if size.longest_edge:
                shape = pil.get_resize_output_image_size(image, size.longest_edge)
            return np.broadcast_to(np.uint8(0), (3, *shape))

    processor = Shapes()
    image = np.broadcast_to(np.uint8(0), (3, height, width))
    image = processor.resize(image, pil.SizeDict(longest_edge=edge))
    image = processor.resize_for_vision_encoder(image, side)
    _, rows, columns = processor.split_images(image, max_image_size={"longest_edge": side})
    return Tiles(rows, columns)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 6000),
    st.integers(1, 6000),
    st.sampled_from([(2048, 512), (1536, 384), (1920, 512), (128, 32), (512, 512), (5000, 512)]),
)
def test_tile_grid_equals_transformers(height: int, width: int, sizes: tuple[int, int]) -> None:
    edge, side = sizes
    tiles = tiles_of(height, width, resize_edge=edge, image_size=side)
    assert tiles == tiles_of_transformers(height, width, edge, side)


@given(
    st.integers(1, 10_000), st.integers(1, 10_000), st.integers(2, 2048).map(lambda half: 2 * half)
)
def test_size_at_longest_edge(height: int, width: int, edge: int) -> None:
    tall, wide = size_at_longest_edge(height, width, edge)
    assert max(tall, wide) == edge
    assert min(tall, wide) >= 1
    assert abs(min(tall, wide) - edge * min(height, width) / max(height, width)) < 2


# ------------------------------------------------------ transformed frames


def test_transformed_frames_are_not_resized_again(checkpoints: dict[str, Checkpoint]) -> None:
    toy = checkpoints["smolvlm2"]
    name, fit = frame_transform(toy)
    frames = [scene(90, 160, seed) for seed in range(3)]
    metadata = VideoMetadata(160, 90, 3.0, name="clip.mp4")
    raw = FrameBatch(np.stack(frames), (0.0, 1.0, 2.0), metadata)
    fitted = FrameBatch(np.stack([fit(frame) for frame in frames]), (0.0, 1.0, 2.0), metadata, name)
    one, other = (pack_prompt([Message("user", (batch, "?"))], toy) for batch in (raw, fitted))
    assert one.token_ids == other.token_ids
    assert np.array_equal(one.images, other.images)
    assert other.images is fitted.images, "fifty frames of 512 pixels are 39 MB, and not twice"
    with pytest.raises(PromptError, match=r"`clip\.mp4` were fitted as `official` to 32x32"):
        pack_prompt([Message("user", (fitted, "?"))], toy, PromptOptions(geometry="pad"))
    with pytest.raises(PromptError, match="needs `official` and 512x512"):
        pack_prompt([Message("user", (fitted, "?"))], checkpoints["full"])


def test_transformed_image_is_not_split(checkpoints: dict[str, Checkpoint]) -> None:
    metadata = VideoMetadata(160, 90, 0.0, kind="image", name="a.png")
    fitted = FrameBatch(scene(32, 32)[None], (0.0,), metadata, "official")
    messages = [Message("user", (fitted, "?"))]
    assert len(pack_prompt(messages, checkpoints["smolvlm2"]).images) == 1
    with pytest.raises(PromptError, match="cannot be split"):
        pack_prompt(messages, checkpoints["smolvlm2"], PromptOptions(split_images=True))


def test_frame_of_the_target_size_is_not_resampled(
    checkpoints: dict[str, Checkpoint], tmp_path: Path
) -> None:
    frame = scene(32, 32)
    assert np.array_equal(frame_transform(checkpoints["nano"])[1](frame), frame)
