"""Fifty frames through networks of the published shapes, with random weights and few layers."""

from pathlib import Path

import psutil
import pytest
import tinymodels
from clipmaker import evenly, write_clip

from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.pipeline import prepare, stream_answer
from smolvideo.prompt import count_tokens


@pytest.mark.checkpoints
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tokens_per_frame"),
    [("SmolVLM2-256M-Video-Instruct", 77), ("SmolVLM-256M-Instruct", 67)],
)
def test_fifty_frames_through_the_real_shapes(
    processor_files: Path, tmp_path: Path, name: str, tokens_per_frame: int
) -> None:
    short = GenerationOptions(max_new_tokens=8)
    before = psutil.Process().memory_info().rss
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
    answer = stream_answer(engine, prepared).result()
    assert answer.usage.answer_tokens <= short.max_new_tokens
    assert answer.usage.frames == 50
    assert psutil.Process().memory_info().rss - before < 2 * 1024**3
