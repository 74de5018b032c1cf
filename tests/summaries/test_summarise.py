"""Summaries of folders end to end with nano: each video once; resume, changes, failures,
outputs.
"""

import doctest
import json
import os
import shutil
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from stress.kill_and_resume import EXIT_SOME_FAILED, command, compare, run_killed
from support import tinymodels
from support.clipmaker import evenly, write_clip
from support.longfilm import plan_film, write_film
from support.manyvideos import make_folder
from support.project import ROOT

import smolvideo
import smolvideo.summaries.api
import smolvideo.video
from smolvideo.cli.main import cli
from smolvideo.engines import Engine, GenerationOptions, load_engine
from smolvideo.errors import ModelError, PromptError, RecordError
from smolvideo.models import open_checkpoint
from smolvideo.summaries import (
    ItemResult,
    OutputOptions,
    RunOptions,
    Selection,
    SummaryOptions,
    SummaryRecord,
    SummaryRun,
    list_items,
    open_run,
    summarise,
)

SAMPLES = ROOT / "samples"
FEW = SummaryOptions(max_frames=6)


@pytest.fixture(scope="module")
def nano() -> Engine:
    return load_engine("nano")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return three samples, one of them twice, and a broken file."""
    base = tmp_path / "videos"
    (base / "more").mkdir(parents=True)
    for name in ("circle_right.mp4", "cross_and_circle.mp4"):
        shutil.copyfile(SAMPLES / name, base / name)
    shutil.copyfile(SAMPLES / "circle_right.mp4", base / "more" / "again.mp4")
    (base / "more" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99)
    return base


def run(
    nano: Engine,
    folder: Path,
    out: Path | None,
    options: SummaryOptions = FEW,
    formats: tuple[str, ...] = ("txt",),
    **more: object,
) -> list[ItemResult]:
    """Run a batch over ``folder`` and return the result of each video."""
    outputs = OutputOptions(out, formats=formats if out else ())
    given = RunOptions(**more)  # type: ignore[arg-type]
    with open_run(nano.checkpoint, lambda: nano, [folder], options, outputs, given) as batch:
        return list(batch.run(list_items([folder], given.selection)))


def outcomes(done: list[ItemResult]) -> dict[str, str]:
    return {one.item.relative.as_posix(): one.outcome for one in done}


def answer_nothing() -> Engine:
    raise AssertionError("the model was not needed")


def test_every_video_has_a_record(nano: Engine, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(nano, folder, out)
    assert outcomes(done) == {
        "circle_right.mp4": "made",
        "cross_and_circle.mp4": "made",
        "more/again.mp4": "same",
        "more/broken.mp4": "failed",
    }
    circle, _, again, broken = (one.record for one in done)
    assert circle.text == "A purple circle moves right on a brown background."
    assert (again.text, again.same_as) == (circle.text, circle.path)
    assert broken.text is None
    assert "header is lost" in str(broken.error)
    assert "fetch it again" in str(broken.hint)
    assert (out / "more" / "again.summary.txt").read_text() == f"{circle.text}\n"
    assert not (out / "more" / "broken.summary.txt").exists()
    lines = (out / "summaries.jsonl").read_text("utf-8").splitlines()
    assert [SummaryRecord.from_json(line) for line in lines] == [one.record for one in done]
    assert json.loads(lines[0])["source"]["sha256"]


def test_short_video_has_the_answer_of_ask(nano: Engine) -> None:
    video = SAMPLES / "triangle_down.mp4"
    (record,) = summarise(nano, video)
    assert record.text == smolvideo.ask(nano, str(video), "Describe the video.").text
    assert record.window_seconds is None
    assert record.frames == 50
    assert len(record.chapters) == 1


def test_second_run_computes_nothing(nano: Engine, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(nano, folder, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file()}
    outputs = OutputOptions(out, formats=("txt",))
    with open_run(nano.checkpoint, answer_nothing, [folder], FEW, outputs, RunOptions()) as batch:
        again = list(batch.run(list_items([folder])))
    assert set(outcomes(again).values()) == {"kept", "failed"}
    assert not any(one.is_new for one in again)
    assert [one.record for one in again] == [one.record for one in first]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_only_changed_videos_are_summarised_again(
    nano: Engine, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(nano, folder, out)
    shutil.copyfile(SAMPLES / "star_up_rotated.mp4", folder / "cross_and_circle.mp4")
    os.utime(folder / "circle_right.mp4")  # touched, not changed
    (folder / "new.mp4").write_bytes((SAMPLES / "triangle_down.mp4").read_bytes())
    done = run(nano, folder, out)
    assert outcomes(done) == {
        "circle_right.mp4": "kept",
        "cross_and_circle.mp4": "made",
        "new.mp4": "made",
        "more/again.mp4": "kept",
        "more/broken.mp4": "failed",
    }
    text = (out / "cross_and_circle.summary.txt").read_text()
    assert text == "A red star moves up on a black background.\n"
    lines = (out / "summaries.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 5, "one line for each video, the old one of the changed video is gone"


def test_other_settings_make_another_summary(nano: Engine, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(nano, folder, out, formats=("txt", "md"))
    asked = SummaryOptions(max_frames=6, prompt="What colour is the background?")
    done = run(nano, folder, out, asked)
    assert [one.outcome for one in done] == ["made", "made", "same", "failed"]
    assert (out / "circle_right.summary.txt").read_text() == "brown\n"
    assert "brown\n" in (out / "circle_right.summary.md").read_text(), "no stale page is left"


def test_additional_format_needs_no_model(nano: Engine, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(nano, folder, out)
    (out / "circle_right.summary.txt").unlink()
    outputs = OutputOptions(out, formats=("txt", "vtt", "html"))
    with open_run(nano.checkpoint, answer_nothing, [folder], FEW, outputs, RunOptions()) as batch:
        list(batch.run(list_items([folder])))
    for name in ("circle_right", "cross_and_circle", "more/again"):
        for ending in ("txt", "vtt", "html"):
            assert (out / f"{name}.summary.{ending}").stat().st_size > 20
    assert "data:image/jpeg" in (out / "circle_right.summary.html").read_text()


def test_other_files_are_not_overwritten(nano: Engine, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "circle_right.summary.txt").write_text("mine")
    run(nano, folder, out)
    assert (out / "circle_right.summary.txt").read_text() == "mine"
    text = (out / "circle_right.mp4.summary.txt").read_text()
    assert text == "A purple circle moves right on a brown background.\n"
    run(nano, folder, out)
    assert len(list(out.glob("circle_right*"))) == 2


def test_videos_of_equal_names_keep_their_own_outputs(nano: Engine, tmp_path: Path) -> None:
    """In any order of the folders, and if one is gone or its video is replaced."""
    one, two, out = tmp_path / "day1", tmp_path / "day2", tmp_path / "out"
    texts = {}
    for home, video in ((one, "circle_right"), (two, "star_up_rotated")):
        home.mkdir()
        shutil.copyfile(SAMPLES / f"{video}.mp4", home / "a.mp4")

    def summarise_folders(*folders: Path) -> None:
        outputs = OutputOptions(out, formats=("txt",))
        with open_run(nano.checkpoint, lambda: nano, folders, FEW, outputs, RunOptions()) as batch:
            for done in batch.run(list_items(folders)):
                output = out / f"{done.record.output}.summary.txt"
                assert output.read_text() == f"{done.record.text}\n"
                texts[done.record.path] = (output, done.record.text)

    summarise_folders(one, two)
    first = dict(texts)
    assert len({output for output, _ in first.values()}) == 2
    summarise_folders(two, one)
    one.rename(tmp_path / "away")
    summarise_folders(two)
    (tmp_path / "away").rename(one)
    summarise_folders(one, two)
    assert texts == first
    shutil.copyfile(SAMPLES / "number_42.mp4", one / "a.mp4")
    summarise_folders(two, one)
    assert texts[str(two / "a.mp4")] == first[str(two / "a.mp4")]
    assert texts[str(one / "a.mp4")] != first[str(one / "a.mp4")]


def test_failed_file_is_retried_on_request_or_after_a_change(
    nano: Engine, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(nano, folder, out)
    assert not run(nano, folder, out)[-1].is_new
    assert run(nano, folder, out, retry=True)[-1].is_new
    shutil.copyfile(SAMPLES / "star_up_rotated.mp4", folder / "more" / "broken.mp4")
    assert run(nano, folder, out)[-1].outcome == "made"


def test_outputs_of_a_missing_video_are_kept(nano: Engine, folder: Path, tmp_path: Path) -> None:
    out, video = tmp_path / "out", folder / "circle_right.mp4"
    run(nano, video, out)
    video.rename(folder / "elsewhere")
    (gone,) = run(nano, video, out)
    assert "no such file" in str(gone.record.error)
    assert (out / "circle_right.summary.txt").exists()
    (folder / "elsewhere").rename(video)
    (back,) = run(nano, video, out)
    assert back.record.text
    assert (out / "circle_right.summary.txt").exists()


def test_outputs_next_to_the_video(nano: Engine, folder: Path) -> None:
    outputs = OutputOptions(next_to_source=True, formats=("txt",))
    with open_run(nano.checkpoint, lambda: nano, [folder], FEW, outputs, RunOptions()) as batch:
        list(batch.run(list_items([folder])))
    assert (folder / "more" / "again.summary.txt").exists()
    assert (folder / "summaries.jsonl").exists()


def test_results_are_in_list_order(nano: Engine, folder: Path) -> None:
    shuffled = Selection(shuffle=5)
    listed = [item.path for item in list_items([folder], shuffled)]
    done = run(nano, folder, None, selection=shuffled)
    assert [one.record.path for one in done] == listed


def test_model_that_fails_to_load_ends_the_run(nano: Engine, folder: Path) -> None:
    def fail() -> Engine:
        raise ModelError("no memory left")

    with (
        open_run(nano.checkpoint, fail, [folder], FEW, OutputOptions(), RunOptions()) as batch,
        pytest.raises(ModelError, match="no memory left"),
    ):
        list(batch.run(list_items([folder])))


def test_too_many_frames_fail_before_any_video_is_opened(nano: Engine) -> None:
    many = SummaryOptions(max_frames=900, reduce_to_fit=False)
    with pytest.raises(PromptError, match="900 frames do not fit") as raised:
        list(summarise(nano, "no such file.mp4", options=many))
    assert "--max-frames" in str(raised.value.hint)


def test_long_video_in_every_style(nano: Engine, tmp_path: Path) -> None:
    true = plan_film(100, Random(5), shortest=20, longest=30)
    film = write_film(tmp_path / "film.mp4", true)
    for style in ("brief", "detailed", "bullets", "chapters"):
        options = SummaryOptions(style=style, window_seconds=25, max_frames=8)
        (record,) = summarise(nano, film, options=options)
        assert record.text
        begins = [chapter.start_seconds for chapter in record.chapters]
        for change in (chapter.start_seconds for chapter in true):
            assert min(abs(begin - change) for begin in begins) < 1, style
        assert [note.end_seconds for note in record.notes[:-1]] == [
            note.start_seconds for note in record.notes[1:]
        ]
        if style == "bullets":
            assert all(line.startswith("- ") for line in record.text.splitlines())


def test_chat_model_merges_its_notes_in_groups(tmp_path: Path) -> None:
    tiny = load_engine(str(tinymodels.make_tiny(tmp_path / "tiny")), device="cpu")
    film = write_film(tmp_path / "film.mp4", plan_film(120, Random(2), shortest=10, longest=20))
    options = SummaryOptions(
        window_seconds=15, max_frames=4, generation=GenerationOptions(max_new_tokens=6)
    )
    (record,) = summarise(tiny, film, options=options)
    assert record.error is None
    windows = len(record.notes)
    assert windows >= 6
    assert record.tokens["answer"] > 6 * windows, "titles and the merged text are asked for, too"
    (longer,) = summarise(
        tiny,
        film,
        options=SummaryOptions(
            window_seconds=15, max_frames=4, generation=GenerationOptions(max_new_tokens=600)
        ),
    )
    assert longer.error is None, "notes that do not fit together are merged in groups"


def test_chat_model_merges_notes_of_which_no_two_fit(tmp_path: Path) -> None:
    """Each half is merged into a text so short that both fit; else merging would never end."""
    folder = tinymodels.make_tiny(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 768
    (folder / "config.json").write_text(json.dumps(config))
    film = write_film(tmp_path / "film.mp4", plan_film(45, Random(2), shortest=10, longest=20))
    options = SummaryOptions(
        window_seconds=15, max_frames=4, generation=GenerationOptions(max_new_tokens=250)
    )
    (record,) = summarise(load_engine(str(folder), device="cpu"), film, options=options)
    assert record.error is None
    first, second, *_ = sorted((len(note.text) for note in record.notes), reverse=True)
    assert first + second + 250 + 100 > 768, "two notes, their merged text and the question"
    assert record.text


def test_several_questions_on_one_video_encode_it_once(nano: Engine) -> None:
    video = SAMPLES / "circle_right.mp4"
    (brief,) = summarise(nano, video)
    (detailed,) = summarise(nano, video, options=SummaryOptions(style="detailed"))
    assert detailed.text == f"{brief.text} Anything moving: yes; background: brown."
    assert detailed.frames == brief.frames


def test_second_run_on_a_locked_folder_is_an_error(
    nano: Engine, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = summarise(nano, folder, out=out)
    next(running)
    with pytest.raises(RecordError, match="another smolvideo"):
        next(summarise(nano, folder, out=out))
    assert len(list(running)) == 3


def test_closing_early_stops_the_threads(nano: Engine, folder: Path) -> None:
    import threading

    before = threading.active_count()
    running = summarise(nano, folder)
    next(running)
    running.close()
    assert threading.active_count() == before


@pytest.mark.slow
def test_killed_and_resumed_run_equals_an_undisturbed_one(tmp_path: Path) -> None:
    """A short version of ``tests/stress/kill_and_resume.py``."""
    folder = make_folder(tmp_path / "videos", 12, seed=4)
    undisturbed = command(folder, tmp_path / "undisturbed")
    done = CliRunner().invoke(cli, undisturbed[undisturbed.index("summarise") :])
    assert done.exit_code == EXIT_SOME_FAILED, done.output
    assert run_killed(folder, tmp_path / "killed", 12, 2, Random(1)) >= 1
    compare(tmp_path / "undisturbed", tmp_path / "killed")


def test_folder_of_frames_and_image_are_summarised(nano: Engine, tmp_path: Path) -> None:
    from PIL import Image

    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (200, 30, 30)).save(frames / f"{number}.png")
    (shots,) = summarise(nano, frames, out=tmp_path / "out", formats=("txt", "srt", "html"))
    assert shots.text
    assert shots.source.kind == "frames"
    (picture,) = summarise(nano, frames / "0.png")
    assert picture.source.kind == "image"


def test_single_frame_video_and_partial_last_window(nano: Engine, tmp_path: Path) -> None:
    one = write_clip(tmp_path / "one.mp4", evenly(1, 10)).path
    options = SummaryOptions(style="chapters", window_seconds=1)
    clip = write_clip(tmp_path / "clip.mp4", evenly(65, 10)).path
    first, second = summarise(nano, [one, clip], options=options)
    assert first.text
    assert second.notes[-1].end_seconds == pytest.approx(6.5, abs=0.11)


@pytest.mark.parametrize("module", [smolvideo.summaries.api, smolvideo.video])
def test_the_examples_run(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


def test_plan_lists_the_pending_work(nano: Engine, folder: Path, tmp_path: Path) -> None:
    from smolvideo.summaries.dry_run import plan_items, seconds_per_frame

    def plan(options: SummaryOptions) -> tuple[dict[str, str], SummaryRun]:
        outputs = OutputOptions(tmp_path / "out", formats=("txt",))
        with open_run(
            open_checkpoint("nano", weights=False),
            answer_nothing,
            [folder],
            options,
            outputs,
            RunOptions(),
        ) as batch:
            planned = list(plan_items(batch, list_items([folder])))
            spent = seconds_per_frame(batch)
        assert all(one.frames == 6 for one in planned if one.plan in ("new", "settings"))
        return {one.item.relative.name: one.plan for one in planned}, spent

    kinds, spent = plan(FEW)
    assert spent is None
    assert kinds == {
        "circle_right.mp4": "new",
        "cross_and_circle.mp4": "new",
        "again.mp4": "same",
        "broken.mp4": "error",
    }
    run(nano, folder, tmp_path / "out")
    kinds, spent = plan(FEW)
    assert spent is not None
    assert spent > 0
    assert set(kinds.values()) == {"done", "error"}
    kinds, _ = plan(SummaryOptions(max_frames=6, style="detailed"))
    assert kinds["circle_right.mp4"] == "settings"


def test_plan_opens_each_video_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smolvideo.readers.decoder_process import DecoderProcess
    from smolvideo.summaries.dry_run import plan_items

    asked: list[tuple[str, str]] = []
    begin = DecoderProcess.send_request

    def count(process: DecoderProcess, do: str, name: str, **what: object) -> int:
        asked.append((do, name))
        return begin(process, do, name, **what)

    monkeypatch.setattr(DecoderProcess, "send_request", count)
    checkpoint, outputs = open_checkpoint("nano", weights=False), OutputOptions(tmp_path / "out")
    with open_run(
        checkpoint, answer_nothing, [folder], FEW, outputs, RunOptions(dry_run=True)
    ) as batch:
        planned = [one.item.name for one in plan_items(batch, list_items([folder])) if one.frames]
    assert planned == ["circle_right.mp4", "cross_and_circle.mp4"]
    assert [name for do, name in asked if do == "open" and name in planned] == planned
    assert {do for do, _ in asked} <= {"open", "frame_times", "close"}


def test_duplicates_of_finished_videos_block_no_prefetch(nano: Engine, tmp_path: Path) -> None:
    """Their prefetched frames were never consumed, which blocked the decoding threads forever."""
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    shutil.copyfile(SAMPLES / "circle_right.mp4", folder / "0.mp4")
    run(nano, folder, out)
    for number in range(1, 7):
        shutil.copyfile(SAMPLES / "circle_right.mp4", folder / f"{number}.mp4")
    assert [one.outcome for one in run(nano, folder, out)] == ["kept", *["same"] * 6]
