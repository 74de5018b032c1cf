"""The pipeline from source to answer, on small real videos and tiny random networks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import tinymodels
from support.clipmaker import evenly, numbered_image, write_clip

import smolvideo
import smolvideo.pipeline.prepare_prompt as preparing
from smolvideo.engines import Engine, GenerationOptions, load_engine
from smolvideo.errors import PromptError, ReaderError, SmolVideoError, SourceError, UsageError
from smolvideo.files import content_hash
from smolvideo.models import Checkpoint
from smolvideo.pipeline import (
    PreparedPrompt,
    allocate_frames,
    load_frames,
    prepare,
    record_answer,
    record_error,
    stream_answer,
)
from smolvideo.progress import Progress
from smolvideo.prompt import Message, PromptOptions
from smolvideo.records import AnswerRecord, RecordWriter, read_records
from smolvideo.sampling import FrameSampling, RelativeTime
from smolvideo.source import VideoSource

SHORT = GenerationOptions(max_new_tokens=8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("engine") / "tiny")
    return load_engine(str(folder), device="cpu")


@pytest.fixture(scope="module")
def checkpoint(engine: Engine) -> Checkpoint:
    return engine.checkpoint


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write videos of 60, 30 and 3 frames at 10 per second, an image, and a folder of five
    frames.
    """
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "a.mp4", evenly(60, 10))
    write_clip(folder / "b.mp4", evenly(30, 10))
    write_clip(folder / "short.mp4", evenly(3, 10))
    Image.fromarray(numbered_image(7)).save(folder / "picture.png")
    (folder / "frames").mkdir()
    for number in range(5):
        Image.fromarray(numbered_image(number)).save(folder / "frames" / f"{number:02d}.png")
    return folder


def context_of(tokens: int, checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, context_tokens=tokens)


def image_tokens(prepared: PreparedPrompt, checkpoint: Checkpoint) -> int:
    return prepared.prompt.token_ids.count(checkpoint.image_token_id)


def test_question_about_a_video(engine: Engine, media: Path) -> None:
    reports: list[Progress] = []
    sampling = FrameSampling(max_frames=6)
    prepared = prepare(
        engine.checkpoint,
        media / "a.mp4",
        "What is it?",
        sampling=sampling,
        generation=SHORT,
        on_progress=reports.append,
    )
    stream = stream_answer(engine, prepared, on_progress=reports.append)
    pieces = list(stream)
    answer = stream.result()
    assert "".join(pieces) == answer.text
    assert answer.usage.frames == 6
    assert list(answer.usage.seconds) == ["decode", "encode", "prefill", "generate"]
    stages = [report.stage for report in reports]
    assert sorted(set(stages), key=stages.index) == ["decode", "encode", "prefill", "generate"]


def test_prompt_has_the_chosen_frames(checkpoint: Checkpoint, media: Path) -> None:
    prepared = prepare(
        checkpoint, str(media / "a.mp4"), "What?", sampling=FrameSampling(max_frames=6)
    )
    (batch,) = prepared.batches
    assert batch.pts_seconds == pytest.approx([0.0, 1.1, 2.3, 3.5, 4.7, 5.9])
    assert batch.geometry == "official"
    assert np.array_equal(prepared.prompt.images, batch.images)
    assert prepared.prompt.images.shape == (6, 32, 32, 3)
    assert image_tokens(prepared, checkpoint) == 6 * tinymodels.TOKENS_PER_IMAGE
    assert prepared.notices == ()
    assert "Video 1" not in prepared.prompt.text
    assert prepared.prompt.text.endswith("What?<end_of_utterance>\nAssistant:")


def test_load_frames(media: Path) -> None:
    batch = load_frames(media / "a.mp4", FrameSampling(max_frames=3))
    assert batch.images.shape == (3, 96, 128, 3)
    at = load_frames(str(media / "a.mp4"), times=[2.0, 4.05])
    assert at.pts_seconds == pytest.approx([2.0, 4.0])
    with pytest.raises(UsageError, match="holds 3 videos"):
        load_frames(media)
    with pytest.raises(SourceError):
        load_frames(media / "none.mp4")


# ------------------------------------------------------------------------------ context budget


def test_too_many_frames_are_reduced_before_decoding_with_a_notice(
    checkpoint: Checkpoint, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = context_of(900, checkpoint)
    prepared = prepare(small, media / "a.mp4", "What?", generation=SHORT)
    frames = len(prepared.batches[0])
    assert 10 < frames < 50
    assert prepared.sampling.max_frames == frames
    assert prepared.notices == (
        f"{frames} of 50 frames are used: more do not fit the 900 tokens of `tiny`",
    )
    assert len(prepared.prompt) + SHORT.max_new_tokens <= 900
    assert prepared.batches[0].pts_seconds[-1] == pytest.approx(5.9), "spread, not cut off"

    one_more = replace(prepared.sampling, max_frames=frames + 1, reduce_to_fit=False)
    monkeypatch.setattr(preparing, "sample_frames", _decode_nothing)
    with pytest.raises(PromptError, match=f"{frames + 1} frames and the text take") as caught:
        prepare(small, media / "a.mp4", "What?", sampling=one_more, generation=SHORT)
    assert caught.value.hint == f"`--max-frames {frames}` fits"


def _decode_nothing(*_: object, **__: object) -> None:
    raise AssertionError("a frame was decoded although the prompt does not fit")


@pytest.mark.parametrize("tokens", [400, 555, 700, 1234])
@pytest.mark.parametrize("names", [["a.mp4"], ["a.mp4", "b.mp4"], ["a.mp4", "picture.png"]])
def test_error_names_the_largest_frame_count_that_fits(
    checkpoint: Checkpoint, media: Path, tokens: int, names: list[str]
) -> None:
    small, sources = context_of(tokens, checkpoint), [media / name for name in names]
    explicit = FrameSampling(max_frames=60, reduce_to_fit=False)

    def prepared(frames: int) -> PreparedPrompt:
        sampling = replace(explicit, max_frames=frames)
        return prepare(small, sources, "What?", sampling=sampling, generation=SHORT)

    with pytest.raises(PromptError, match="frames and the text take") as caught:
        prepared(60)
    fits = int(str(caught.value.hint).split("--max-frames ")[1].split("`")[0])
    assert sum(len(batch) for batch in prepared(fits).batches) == fits
    with pytest.raises(PromptError):
        prepared(fits + 1)


def test_text_over_the_context_is_an_error(checkpoint: Checkpoint, media: Path) -> None:
    small = context_of(300, checkpoint)
    with pytest.raises(PromptError, match="the text alone takes"):
        prepare(small, media / "a.mp4", "why " * 100, generation=SHORT)
    with pytest.raises(PromptError, match="the text alone takes"):
        prepare(small, [], "why " * 100, generation=SHORT)
    with pytest.raises(PromptError, match="not one frame fits"):
        prepare(small, media / "a.mp4", "why " * 50, generation=SHORT)
    picture = prepare(checkpoint, media / "picture.png", "What?", generation=SHORT)
    too_small = context_of(len(picture.prompt) + SHORT.max_new_tokens - 1, checkpoint)
    with pytest.raises(PromptError, match="pictures and the text"):
        prepare(too_small, media / "picture.png", "What?", generation=SHORT)


def test_longer_answers_leave_fewer_frames(checkpoint: Checkpoint, media: Path) -> None:
    def frames(max_new_tokens: int) -> int:
        options = GenerationOptions(max_new_tokens=max_new_tokens)
        prepared = prepare(
            context_of(900, checkpoint), media / "a.mp4", "What?", generation=options
        )
        return len(prepared.batches[0])

    assert frames(400) < frames(8)


# ------------------------------------------------------------------------- several sources


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(8, 80))
def test_allocate_frames_is_fair(wanted: list[int], total: int) -> None:
    shares = allocate_frames(wanted, total)
    assert sum(shares) == min(total, sum(wanted))
    assert all(1 <= share <= most for share, most in zip(shares, wanted, strict=True))
    held_back = [s for s, most in zip(shares, wanted, strict=True) if s < most]
    assert not held_back or max(shares) - min(held_back) <= 1


def test_several_sources_share_the_frames_and_are_labelled(
    checkpoint: Checkpoint, media: Path
) -> None:
    names = ["a.mp4", "short.mp4", "picture.png", "b.mp4"]
    reports: list[Progress] = []
    prepared = prepare(
        checkpoint,
        [media / name for name in names],
        "Compare them.",
        sampling=FrameSampling(max_frames=24),
        on_progress=reports.append,
    )
    assert [len(batch) for batch in prepared.batches] == [10, 3, 1, 10]
    assert sum(len(batch) for batch in prepared.batches) == len(prepared.prompt.images) == 24
    heads = ["Video 1:\n", "Video 2:\n", "Image 1:\n", "Video 3:\n"]
    places = [prepared.prompt.text.index(head) for head in heads]
    assert places == sorted(places)
    assert [source.name for source in prepared.sources] == names
    assert [report.done for report in reports][-1] == 24
    assert {report.total for report in reports} == {24}
    done = [report.done for report in reports]
    assert done == sorted(done)


def test_one_frame_per_source(checkpoint: Checkpoint, media: Path) -> None:
    prepared = prepare(
        checkpoint, [media / "a.mp4"] * 3, "What?", sampling=FrameSampling(max_frames=3)
    )
    assert [len(batch) for batch in prepared.batches] == [1, 1, 1]


def test_more_sources_than_frames_are_an_error(checkpoint: Checkpoint, media: Path) -> None:
    with pytest.raises(UsageError, match="3 sources need 3 frames") as caught:
        prepare(checkpoint, [media / "a.mp4"] * 3, "What?", sampling=FrameSampling(max_frames=2))
    assert "--max-frames 3" in str(caught.value.hint)


def test_folder_of_frames_and_image(checkpoint: Checkpoint, media: Path) -> None:
    (batch,) = prepare(checkpoint, media / "frames", "What?").batches
    assert (len(batch), batch.metadata.kind) == (5, "frames")
    (picture,) = prepare(checkpoint, media / "picture.png", "What?").batches
    assert (len(picture), picture.geometry) == (1, "official")


def test_split_image_is_not_resized_before_splitting(processor_files: Path, media: Path) -> None:
    from smolvideo.models import open_checkpoint

    folder = processor_files / "SmolVLM2-256M-Video-Instruct"
    checkpoint = open_checkpoint(str(folder), weights=False)
    whole = prepare(
        checkpoint,
        media / "picture.png",
        "What?",
        prompt_options=PromptOptions(split_images=False),
    )
    split = prepare(checkpoint, media / "picture.png", "What?")
    assert (len(whole.prompt.images), whole.batches[0].geometry) == (1, "official")
    assert len(split.prompt.images) > 4
    assert split.batches[0].images.shape == (1, 96, 128, 3)
    beside_a_video = prepare(checkpoint, [media / "picture.png", media / "a.mp4"], "What?")
    assert beside_a_video.batches[0].images.shape == (1, 512, 512, 3)


def test_question_without_a_source(engine: Engine) -> None:
    answer = smolvideo.ask(engine, [], "Who are you?", generation=SHORT)
    assert answer.usage.frames == 0
    assert "decode" not in answer.usage.seconds


def test_subtitles_are_between_frames_and_question(checkpoint: Checkpoint, media: Path) -> None:
    prepared = prepare(
        checkpoint, media / "short.mp4", "What is said?", subtitles="00:01 <image> hello\n"
    )
    assert prepared.prompt.text.endswith(
        "\n\n00:01 <image> hello\n\nWhat is said?<end_of_utterance>\nAssistant:"
    )
    assert image_tokens(prepared, checkpoint) == 3 * tinymodels.TOKENS_PER_IMAGE


def test_follow_up_with_history(engine: Engine, media: Path) -> None:
    first = prepare(engine.checkpoint, media / "short.mp4", "What is it?", generation=SHORT)
    said = stream_answer(engine, first).result().text
    history = (*first.messages, Message("assistant", (said or "Nothing.",)))
    second = prepare(engine.checkpoint, [], "And then?", history=history, generation=SHORT)
    assert np.array_equal(second.prompt.images, first.prompt.images)
    start = len(first.prompt.text) - len("Assistant:")
    assert second.prompt.text[:start] == first.prompt.text[:start]
    assert stream_answer(engine, second).result().usage.frames == 3


@pytest.mark.parametrize("question", ["", "  \n"])
def test_empty_question_is_refused_before_opening_the_source(
    checkpoint: Checkpoint, tmp_path: Path, question: str
) -> None:
    with pytest.raises(PromptError, match="question is empty"):
        prepare(checkpoint, tmp_path / "none.mp4", question)


def test_stage_errors_are_raised(checkpoint: Checkpoint, media: Path) -> None:
    text = media / "text.mp4"
    text.write_text("no video")
    with pytest.raises(ReaderError):
        prepare(checkpoint, VideoSource("x", text, "video", "text.mp4"), "What?")
    text.unlink()
    with pytest.raises(ReaderError, match="nothing to see"):
        prepare(checkpoint, media / "a.mp4", "?", sampling=FrameSampling(start_seconds=60.0))


def test_readers_are_always_closed(
    checkpoint: Checkpoint, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    closed: list[object] = []
    really_open: Callable[..., object] = preparing.open_video

    def watched(*args: object, **options: object) -> object:
        reader = really_open(*args, **options)
        really_close = reader.close  # type: ignore[attr-defined]
        monkeypatch.setattr(reader, "close", lambda: (closed.append(reader), really_close()))
        opened.append(reader)
        return reader

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "open_video", watched)
    prepare(checkpoint, [media / "a.mp4", media / "b.mp4"], "What?")
    with pytest.raises(KeyboardInterrupt):
        prepare(checkpoint, media / "a.mp4", "What?", on_progress=interrupt)
    assert len(opened) == 3
    assert sorted(map(id, opened)) == sorted(map(id, closed))


def test_closing_the_answer_closes_that_of_the_engine(engine: Engine, media: Path) -> None:
    stream = stream_answer(engine, prepare(engine.checkpoint, media / "short.mp4", "What?"))
    next(iter(stream))
    stream.close()
    with pytest.raises(SmolVideoError, match="broken off"):
        stream.result()


# ------------------------------------------------------------------------------ records


def test_record_of_an_answer(engine: Engine, media: Path, tmp_path: Path) -> None:
    sampling = FrameSampling(max_frames=4, start_seconds=RelativeTime(0.5))
    generation = GenerationOptions(max_new_tokens=8, temperature=0.8, stop=("zzz",))
    prepared = prepare(
        engine.checkpoint, media / "a.mp4", "What?", sampling=sampling, generation=generation
    )
    answer = stream_answer(engine, prepared).result()
    record = record_answer(prepared, engine, answer)
    with RecordWriter(tmp_path / "r.jsonl") as writer:
        writer.write(record)
    assert read_records(tmp_path / "r.jsonl")[0] == record
    content = json.loads(record.to_json())
    (source,) = content["sources"]
    assert source["sha256"] == content_hash(media / "a.mp4")
    assert source["given"] == str(media / "a.mp4")
    assert source["frame_times"] == list(prepared.batches[0].pts_seconds)
    assert content["text"] == answer.text
    assert content["error"] is None
    assert content["settings"]["max_frames"] == 4
    assert content["settings"]["start_seconds"] == "50%"
    assert isinstance(content["settings"]["seed"], int), "the drawn seed is recorded"
    assert (content["layout"], content["geometry"]) == ("smolvlm2", "official")
    assert (content["model"], content["engine"]) == ("tiny", "native")
    assert (content["device"], content["dtype"]) == ("cpu", "float32")
    assert {"smolvideo", "torch", "transformers"} <= set(content["versions"])
    assert list(content["seconds"]) == ["load", "decode", "encode", "prefill", "generate"]
    assert content["tokens"]["prompt"] == len(prepared.prompt)
    again = stream_answer(
        engine, replace(prepared, generation=replace(generation, seed=content["settings"]["seed"]))
    )
    assert again.result().text == answer.text, "what is recorded can be repeated"


def test_record_of_an_error(media: Path, tmp_path: Path) -> None:
    gone = VideoSource("gone.mp4", tmp_path / "gone.mp4", "video", "gone.mp4")
    error = ReaderError("no such file: `gone.mp4`", hint="look again")
    record = record_error("What?", [gone], error, settings={"max_frames": 50})
    assert (record.text, record.error, record.hint) == (None, str(error), "look again")
    assert record.sources[0].sha256 is None
    assert AnswerRecord.from_json(record.to_json()) == record
