"""Prompts against transformers: token ids and pixels of its processors, on the published files.

SmolVLM2's own processor needs torchvision. Idefics3's processor with SmolVLM2's image processor and
tokenizer gives the same ids; a video is passed as its frames with the texts between them.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from num2words import num2words
from PIL import Image

from smolvideo.formatting import format_timestamp
from smolvideo.frames import FrameBatch, Images, MediaKind, VideoMetadata
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.prompt import Message, PromptOptions, pack_prompt
from smolvideo.prompt.resize import image_transform, split_image, tiles_of

pytestmark = [
    pytest.mark.checkpoints,
    pytest.mark.filterwarnings("ignore:.*torchvision.*"),
]

V1 = ["SmolVLM-Instruct", "SmolVLM-Base", "SmolVLM-256M-Instruct"]
V2 = ["SmolVLM2-256M-Video-Instruct", "SmolVLM2-500M-Video-Instruct", "SmolVLM2-2.2B-Instruct"]
SHAPES = [(360, 640), (480, 360), (100, 100), (37, 211), (720, 1280)]


@pytest.fixture(scope="module")
def processors(processor_files: Path):  # type: ignore[no-untyped-def]
    """Return checkpoint and transformers' processor by name, each created once."""
    made: dict[str, tuple[Checkpoint, Any]] = {}

    def make(name: str) -> tuple[Checkpoint, Any]:
        if name not in made:
            folder = processor_files / name
            checkpoint = open_checkpoint(str(folder), weights=False)
            made[name] = (checkpoint, _processor(folder, checkpoint))
        return made[name]

    return make


def _processor(folder: Path, checkpoint: Checkpoint) -> Any:
    import json

    from transformers import AutoTokenizer, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    family = (
        Idefics3ImageProcessorPil if checkpoint.layout == "smolvlm" else SmolVLMImageProcessorPil
    )
    return Idefics3Processor(
        family.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        image_seq_len=checkpoint.tokens_per_image,
        chat_template=json.loads((folder / "chat_template.json").read_text())["chat_template"],
    )


def scene(height: int, width: int, seed: int = 0) -> Images:
    """Return an image with smooth gradients, hard edges and noise."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 / height, columns * 255 / width, (rows * columns) % 256], axis=-1)
    image[height // 3 : height // 2, width // 4 : width // 2] = (250, 10, 40)
    noise = np.random.default_rng(seed).integers(-20, 20, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def batch_of(*images: Images, kind: MediaKind = "image", duration: float = 0.0) -> FrameBatch:
    height, width = images[0].shape[:2]
    times = tuple(float(place) * 1.5 for place in range(len(images)))
    return FrameBatch(np.stack(images), times, VideoMetadata(width, height, duration, kind=kind))


def reference(
    processor: Any, content: list[Any], *, split: bool
) -> tuple[list[int], np.ndarray | None]:
    """Return token ids and grey levels of transformers for one user turn of texts and images."""
    turn = [
        {"type": "text", "text": item} if isinstance(item, str) else {"type": "image"}
        for item in content
    ]
    text = processor.apply_chat_template(
        [{"role": "user", "content": turn}], add_generation_prompt=True
    )
    images = [Image.fromarray(item) for item in content if not isinstance(item, str)]
    settings = {"images": images, "do_image_splitting": split} if images else {}
    made = processor(text=text, return_tensors="np", **settings)
    pixels = made.get("pixel_values")
    grey = None if pixels is None else np.rint(pixels[0].transpose(0, 2, 3, 1) * 127.5 + 127.5)
    return made["input_ids"][0].tolist(), grey


def distance(ours: Images, theirs: np.ndarray) -> int:
    """Return the largest difference in grey levels."""
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


@pytest.mark.parametrize("name", [*V1, *V2])
@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "  Two  blanks, a\ttab,\n\nand lines\n",
        "12:34:56, 3.14159 and 1,000,000 — naïve façade",
        "日本語の質問ですか。 Привет! 🎬",
        "don't we'll I'VE",
    ],
)
def test_text_only_prompt_equals_transformers(processors, name: str, question: str) -> None:  # type: ignore[no-untyped-def]
    checkpoint, processor = processors(name)
    expected, _ = reference(processor, [question], split=False)
    assert list(pack_prompt([Message("user", (question,))], checkpoint).token_ids) == expected


@pytest.mark.parametrize("name", [V1[0], V2[0]])
def test_digits_of_other_scripts_are_single_tokens(processor_files: Path, name: str) -> None:
    """As in tokenizer.json.

    transformers 5.23 reads v1's file with its own class, which joins them with the blank before.
    """
    from tokenizers import Tokenizer

    checkpoint = open_checkpoint(str(processor_files / name), weights=False)
    text = "<|im_start|>User: ½ ² ٣٤ Ⅷ ①<end_of_utterance>\nAssistant:"
    expected = Tokenizer.from_file(str(processor_files / name / "tokenizer.json")).encode(text).ids
    prompt = pack_prompt([Message("user", ("½ ² ٣٤ Ⅷ ①",))], checkpoint)
    assert list(prompt.token_ids) == expected


@pytest.mark.parametrize("name", [*V1, *V2])
@pytest.mark.parametrize("split", [True, False])
def test_image_prompt_equals_transformers(processors, name: str, split: bool) -> None:  # type: ignore[no-untyped-def]
    checkpoint, processor = processors(name)
    picture = scene(240, 320)
    expected, pixels = reference(processor, [picture, "What is it?"], split=split)
    options = PromptOptions(split_images=split)
    prompt = pack_prompt([Message("user", (batch_of(picture), "What is it?"))], checkpoint, options)
    assert list(prompt.token_ids) == expected
    assert pixels is not None
    assert distance(prompt.images, pixels) <= (0 if checkpoint.layout == "smolvlm" else 2)


@pytest.mark.parametrize("name", ["SmolVLM-256M-Instruct", "SmolVLM-Instruct", V2[0]])
def test_images_between_texts_equal_transformers(processors, name: str) -> None:  # type: ignore[no-untyped-def]
    checkpoint, processor = processors(name)
    one, two = scene(90, 160), scene(160, 90, seed=1)
    content = ["Here is one:", one, "\nand ", two, "\n\nthe difference?"]
    expected, pixels = reference(processor, content, split=False)
    ours = tuple(item if isinstance(item, str) else batch_of(item) for item in content)
    prompt = pack_prompt([Message("user", ours)], checkpoint)
    assert list(prompt.token_ids) == expected
    assert pixels is not None
    assert distance(prompt.images, pixels) <= 2


@pytest.mark.parametrize("name", V2)
def test_smolvlm2_video_equals_transformers(processors, name: str) -> None:  # type: ignore[no-untyped-def]
    checkpoint, processor = processors(name)
    frames = [scene(90, 160, seed) for seed in range(3)]
    batch = batch_of(*frames, kind="video", duration=4.9)
    duration = str(timedelta(seconds=4))
    words = f"series of {num2words(3)} frames from a {duration} [H:MM:SS] video.\n"
    content: list[Any] = [f"You are provided the following {words}"]
    for frame, seconds in zip(frames, batch.pts_seconds, strict=True):
        content += [f"\nFrame from {format_timestamp(seconds)}:", frame]
    expected, pixels = reference(processor, [*content, "\n\nWhat happens?"], split=False)
    prompt = pack_prompt([Message("user", (batch, "What happens?"))], checkpoint)
    assert list(prompt.token_ids) == expected
    assert pixels is not None
    assert distance(prompt.images, pixels) <= 2


@pytest.mark.parametrize("name", V1)
@pytest.mark.parametrize("shape", [(90, 160), (160, 90)])
def test_v1_video_equals_transformers(processors, name: str, shape: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    """The smollm script feeds crops of 384 pixels to the processor without its first resize."""
    checkpoint, processor = processors(name)
    frames = [scene(*shape, seed) for seed in range(3)]
    content: list[Any] = ["Answer briefly.", *map(_crop_of_smollm, frames), "Describe the video"]
    processor.image_processor.do_resize = False
    try:
        expected, pixels = reference(processor, content, split=False)
    finally:
        processor.image_processor.do_resize = True
    batch = batch_of(*frames, kind="video", duration=3.0)
    prompt = pack_prompt([Message("user", (batch, "Describe the video"))], checkpoint)
    assert list(prompt.token_ids) == expected
    assert pixels is not None
    assert distance(prompt.images, pixels) == 0


def _crop_of_smollm(frame: Images) -> Images:
    """Resize the short side to 384 and crop the middle 384 by 384, with Pillow."""
    image = Image.fromarray(frame)
    scale = 384 / min(image.size)
    size = tuple(384 if side == min(image.size) else int(side * scale) for side in image.size)
    image = image.resize(size, Image.Resampling.LANCZOS)
    left, top = (image.width - 384) // 2, (image.height - 384) // 2
    return np.asarray(image.crop((left, top, left + 384, top + 384)))


@pytest.mark.parametrize("name", ["SmolVLM-256M-Instruct", "SmolVLM2-2.2B-Instruct"])
@pytest.mark.parametrize("shape", SHAPES)
def test_image_pixels_equal_transformers(processors, name: str, shape: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    checkpoint, processor = processors(name)
    picture = scene(*shape)
    allowed = 0 if checkpoint.layout == "smolvlm" else 3
    _, whole = reference(processor, [picture, "?"], split=False)
    _, cut = reference(processor, [picture, "?"], split=True)
    assert whole is not None
    assert cut is not None
    tiles = tiles_of(*shape, resize_edge=checkpoint.resize_edge, image_size=checkpoint.image_size)
    assert distance(image_transform(checkpoint)[1](picture)[None], whole) <= allowed
    assert distance(split_image(picture, checkpoint, tiles), cut) <= allowed
