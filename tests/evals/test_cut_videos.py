"""MVBench videos distributed whole or already cut: cut files are not cut again."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.clipmaker import evenly, write_clip

from smolvideo.cli.main import cli


@pytest.mark.parametrize(
    ("seconds", "start", "end", "first", "cut"),
    [
        (6, 2, 5, 2.0, False),  # whole
        (3, 2, 5, 0.0, True),  # as long as the part
        (4, 9, 13, 0.0, True),  # as long as the part, and ends before the part begins
        (2, 9, 13, 0.0, True),  # ends before the part begins
        (4, 2, 9, 2.0, False),  # whole, and the part ends beyond it
        (3, 0, 3, 0.0, False),  # the part is the whole file
    ],
)
def test_start_and_end_apply_to_whole_videos_only(  # type: ignore[no-untyped-def]
    tmp_path: Path, seconds, start, end, first, cut
) -> None:
    write_clip(tmp_path / "v.mp4", evenly(5 * seconds, 5))
    row = {"video": "v.mp4", "question": "What?", "candidates": ["x", "y"], "answer": "x"}
    data = tmp_path / "action_sequence.json"
    data.write_text(json.dumps([row | {"start": start, "end": end}]))
    arguments = ["eval", "mvbench", str(data), "--videos", str(tmp_path), "--model", "nano"]
    arguments += ["--max-frames", "2", "--max-new-tokens", "1", "--run", str(tmp_path / "run")]
    done = CliRunner().invoke(cli, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.stderr
    *_, seen = map(json.loads, (tmp_path / "run" / "videos.jsonl").read_text().splitlines())
    assert seen["frame_times"][0] == pytest.approx(first, abs=0.2)
    assert any("cut to its part already" in notice for notice in seen["notices"]) == cut
