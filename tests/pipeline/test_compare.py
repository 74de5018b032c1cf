"""Two videos on one time axis: interleaved and labelled frames, a fair budget, the command."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import record_schemas
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.errors import PromptError, UsageError
from smolvideo.frames import FrameBatch
from smolvideo.models import open_checkpoint
from smolvideo.pipeline.compare import COMPARE_QUESTION, prepare_comparison
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling

CIRCLE = ROOT / "samples" / "circle_right.mp4"
TRIANGLE = ROOT / "samples" / "triangle_down.mp4"
NANO = open_checkpoint("nano", weights=False)


@pytest.mark.parametrize("layout", ["smolvlm", "smolvlm2"])
@pytest.mark.parametrize("geometry", ["official", "direct", "pad"])
def test_frames_are_interleaved_by_time_and_labelled(layout: str, geometry: str) -> None:
    options = PromptOptions(layout=layout, geometry=geometry)  # type: ignore[arg-type]
    prepared = prepare_comparison(
        NANO, [CIRCLE, TRIANGLE], sampling=FrameSampling(max_frames=9), prompt_options=options
    )
    content = prepared.messages[0].content
    frames = [item for item in content if isinstance(item, FrameBatch)]
    times = [frame.pts_seconds[0] for frame in frames]
    assert times == sorted(times)
    assert sorted(map(len, prepared.batches)) == [4, 5]
    labels = [item for item in content if isinstance(item, str)]
    assert labels[1] == "\nVideo 1, frame from 00:00:"
    assert labels[2] == "\nVideo 2, frame from 00:00:"
    assert labels[-1].strip() == COMPARE_QUESTION
    assert len(prepared.prompt.images) == 9
    # each image is that of its label
    numbers = [int(label[len("\nVideo ")]) for label in labels[1:-1]]
    for number, frame in zip(numbers, frames, strict=True):
        batch = prepared.batches[number - 1]
        index = batch.pts_seconds.index(frame.pts_seconds[0])
        assert (batch.images[index] == frame.images[0]).all()


def test_labels_count_against_the_context() -> None:
    few = FrameSampling(max_frames=400)
    prepared = prepare_comparison(
        NANO, [CIRCLE, TRIANGLE], sampling=few, prompt_options=PromptOptions(layout="smolvlm")
    )
    assert len(prepared.prompt) + prepared.generation.max_new_tokens <= NANO.context_tokens
    assert any("frames are used" in notice for notice in prepared.notices)
    counts = list(map(len, prepared.batches))
    assert abs(counts[0] - counts[1]) <= 1
    with pytest.raises(PromptError, match="frames and the text take"):
        prepare_comparison(
            NANO,
            [CIRCLE, TRIANGLE],
            sampling=FrameSampling(max_frames=400, reduce_to_fit=False),
            prompt_options=PromptOptions(layout="smolvlm"),
        )


def test_comparison_is_of_two_videos(tmp_path: Path) -> None:
    for sources in ([CIRCLE], [CIRCLE, TRIANGLE, CIRCLE]):
        with pytest.raises(UsageError, match="two videos"):
            prepare_comparison(NANO, sources)
    with pytest.raises(PromptError, match="empty"):
        prepare_comparison(NANO, [CIRCLE, TRIANGLE], " ")


def run(*words: str | Path, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == code, done.stderr
    return done


def test_command_answers_records_and_replays(tmp_path: Path) -> None:
    saved = tmp_path / "a.jsonl"
    few = ("--max-frames", "8", "--device", "cpu")
    done = run("compare", CIRCLE, TRIANGLE, "What moves?", *few, "--json", "--save", saved)
    record = record_schemas.validate_line("answer", done.stdout)
    assert record["interleaved"]
    assert [len(source["frame_times"]) for source in record["sources"]] == [4, 4]
    assert "cannot tell two videos apart" in done.stderr
    assert json.loads(run("replay", saved, "--json").stdout)["equal"]
    assert run("compare", CIRCLE, TRIANGLE, *few).stdout.endswith("\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([CIRCLE], 2, "two videos"),
        ([CIRCLE, TRIANGLE, "What?", "else"], 2, "two videos"),
        ([CIRCLE, ROOT / "samples" / "missing.mp4"], 3, "missing.mp4"),
        ([CIRCLE, TRIANGLE, "--overwrite"], 2, "--output"),
    ],
)
def test_wrong_arguments_are_errors(words: list[str | Path], code: int, said: str) -> None:
    assert said in run("compare", *words, code=code).stderr
