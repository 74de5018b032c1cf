"""Frames through networks of the published shapes, with random weights and few layers.

All fifty frames: ``tests/stress/published_shapes.py``.
"""

from pathlib import Path

import pytest
from support import tinymodels
from support.clipmaker import evenly, write_clip

from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.pipeline import prepare, stream_answer
from smolvideo.prompt import count_tokens
from smolvideo.sampling import FrameSampling


@pytest.mark.checkpoints
@pytest.mark.slow
@pytest.mark.usefixtures("_no_decode_kernel")
@pytest.mark.parametrize(
    ("name", "tokens_per_frame"),
    [("SmolVLM2-256M-Video-Instruct", 77), ("SmolVLM-256M-Instruct", 67)],
)
def test_frames_through_the_published_shapes(
    processor_files: Path, tmp_path: Path, name: str, tokens_per_frame: int
) -> None:
    short = GenerationOptions(max_new_tokens=8)
    folder = tinymodels.make_cut(processor_files / name, tmp_path / name)
    engine = load_engine(str(folder), device="cpu")
    write_clip(tmp_path / "clip.mp4", evenly(60, 10))
    prepared = prepare(
        engine.checkpoint, tmp_path / "clip.mp4", "Describe the video", generation=short
    )
    assert len(prepared.batches[0]) == 50
    assert prepared.prompt.images.shape == (50, 512, 512, 3)
    assert 50 * tokens_per_frame < len(prepared.prompt) < 50 * tokens_per_frame + 60
    assert prepared.prompt.token_ids.count(engine.checkpoint.image_token_id) == 50 * 64
    assert count_tokens(prepared.messages, engine.checkpoint) == len(prepared.prompt)
    few = prepare(
        engine.checkpoint,
        tmp_path / "clip.mp4",
        "Describe the video",
        sampling=FrameSampling(max_frames=5),
        generation=GenerationOptions(max_new_tokens=1),
    )
    # Only the first token, which needs no decode kernel: ``test_native_parity.py`` has further
    # tokens of these shapes.
    answer = stream_answer(engine, few).result()
    assert answer.usage.answer_tokens <= 1
    assert answer.usage.frames == 5
    assert answer.usage.prompt_tokens == len(few.prompt)
