"""``smolvideo ask`` from the command line to the answer, on a network with random weights."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support import tinymodels
from support.clipmaker import evenly, write_clip

import smolvideo
from smolvideo.answer import Answer
from smolvideo.cli.main import cli
from smolvideo.cli.model_choice import BackgroundEngine
from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.errors import ModelError
from smolvideo.progress import Progress
from smolvideo.records import read_records
from smolvideo.sampling import FrameSampling
from smolvideo.sanitize import escape_controls


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("video") / "clip.mp4", evenly(40, 10)).path


@pytest.fixture(scope="module")
def whole(tiny: Path, video: Path) -> Answer:
    """Return the answer of the Python interface, cut at eight tokens."""
    engine = load_engine(str(tiny), device="cpu")
    short = GenerationOptions(max_new_tokens=8)
    return smolvideo.ask(engine, str(video), "What happens?", generation=short)


@pytest.fixture(scope="module")
def answer(whole: Answer) -> str:
    return whole.text


@pytest.fixture(scope="module")
def notes(whole: Answer) -> str:
    """Return the expected notices of the answer on stderr."""
    assert any("cut after 8 tokens" in notice for notice in whole.notices)
    return "".join(f"note: {notice}\n" for notice in whole.notices)


def run(model: Path, *words: str | Path, stdin: str | None = None) -> Result:
    options = ["--model", str(model), "--device", "cpu", "--max-new-tokens", "8"]
    return CliRunner().invoke(cli, ["ask", *options, *map(str, words)], input=stdin)


def test_stdout_has_only_the_answer(tiny: Path, video: Path, answer: str, notes: str) -> None:
    done = run(tiny, video, "What happens?")
    assert (done.exit_code, done.stderr) == (0, notes)
    assert done.stdout == escape_controls(answer, allowed="\n\t") + "\n"


def test_question_from_stdin(tiny: Path, video: Path, answer: str) -> None:
    done = run(tiny, video, "-", stdin="What happens?\n")
    assert done.stdout == escape_controls(answer, allowed="\n\t") + "\n"


def test_question_option_and_source_list(
    tiny: Path, video: Path, tmp_path: Path, answer: str
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"# one video\n{video}\n")
    done = run(tiny, "--list", listed, "--allow-outside", "--question", "What happens?")
    assert done.stdout == escape_controls(answer, allowed="\n\t") + "\n"


def test_json_is_one_record(tiny: Path, video: Path, answer: str) -> None:
    done = run(tiny, video, "What happens?", "--json", "--max-frames", "5", "--seed", "3",
               "--temperature", "0.5")  # fmt: skip
    assert done.exit_code == 0
    (line,) = done.stdout.splitlines()
    record = json.loads(line)
    assert record["question"] == "What happens?"
    assert record["error"] is None
    assert len(record["sources"][0]["frame_times"]) == 5
    assert record["settings"]["max_frames"] == 5
    assert record["settings"]["reduce_to_fit"] is False
    assert record["settings"]["seed"] == 3
    assert record["tokens"]["answer"] <= 8


def test_output_and_save_write_files(
    tiny: Path, video: Path, tmp_path: Path, answer: str, notes: str
) -> None:
    output, save = tmp_path / "answer.txt", tmp_path / "answers.jsonl"
    for _ in range(2):
        done = run(tiny, video, "What happens?", "-o", output, "--overwrite", "--save", save)
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr == f"{notes}note: the answer is in `{output}`\n"
    assert output.read_text() == answer + "\n"
    records = read_records(save)
    assert [record.text for record in records] == [answer, answer]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "answer.txt",
        "answers.jsonl",
    ]


def test_saved_failure_has_no_text(tiny: Path, video: Path, tmp_path: Path) -> None:
    save = tmp_path / "answers.jsonl"
    done = run(tiny, video, "What happens?", "--start", "99", "--save", save)
    assert done.exit_code == 3
    (record,) = read_records(save)
    assert record.text is None
    assert record.error is not None
    assert record.error in done.stderr


def test_existing_output_is_refused_first(video: Path, tmp_path: Path) -> None:
    output = tmp_path / "answer.txt"
    output.write_text("precious")
    done = run(Path("no-such-model"), video, "What happens?", "--output", output)
    assert done.exit_code == 5
    assert "exists already" in done.stderr
    assert output.read_text() == "precious"


@pytest.mark.parametrize("option", ["--list", "--subtitles", "--cookies"])
@pytest.mark.parametrize("writes", ["--output", "--save"])
def test_input_files_are_not_overwritten(
    tmp_path: Path, video: Path, option: str, writes: str
) -> None:
    read, link = tmp_path / "read.txt", tmp_path / "link.txt"
    read.write_text(f"{video}\n")
    link.symlink_to(read)
    overwrite = ["--overwrite"] if writes == "--output" else []
    words = [video, "What?", option, read, writes, link, *overwrite]
    done = run(Path("no-such-model"), *words)
    assert done.exit_code == 2
    assert f"`{writes}` would write over `{link}`, which `{option}` names" in done.stderr
    assert read.read_text() == f"{video}\n"


def test_source_is_not_overwritten(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", evenly(4, 10)).path
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    shots = tmp_path / "shots"
    shots.mkdir()
    shot = shots / "1.png"
    Image.new("RGB", (8, 8)).save(shot)
    before = clip.read_bytes(), shot.read_bytes()
    for source, output in [(clip, clip), (clip, link), (link, clip), (shots, shot)]:
        done = run(Path("no-such-model"), source, "What?", "-o", output, "--overwrite")
        assert done.exit_code == 2
        assert "`--output` would write over the source" in done.stderr
    assert (clip.read_bytes(), shot.read_bytes()) == before


@pytest.mark.parametrize("name", ["clip.srt", "clip.de.vtt", "link.txt"])
def test_output_does_not_replace_subtitles(tmp_path: Path, name: str) -> None:
    """Nor may it become a file that ``auto`` would find the next time."""
    clip = write_clip(tmp_path / "clip.mp4", evenly(4, 10)).path
    beside, output = clip.with_suffix(".srt"), tmp_path / name
    beside.write_text("1\n00:00:00,000 --> 00:00:01,000\nPrecious.\n")
    if name == "link.txt":
        output.symlink_to(beside)
    before = beside.read_bytes()
    words = [clip, "What?", "--subtitles", "auto", "-o", output, "--overwrite"]
    done = run(Path("no-such-model"), *words)
    assert done.exit_code == 2
    assert "would be taken for the subtitles of" in done.stderr
    assert beside.read_bytes() == before
    assert output.exists() == (name != "clip.de.vtt")


def test_frames_over_the_context_are_reduced_with_a_notice(tiny: Path, video: Path) -> None:
    few = FrameSampling().max_frames
    done = run(tiny, video, "What happens? " * 100, "--json")
    assert done.exit_code == 0
    frames = len(json.loads(done.stdout)["sources"][0]["frame_times"])
    assert 0 < frames < min(few, 40)
    assert done.stderr.startswith(f"note: {frames} of 40 frames are used")


def test_quiet_omits_notices(tiny: Path, video: Path) -> None:
    done = run(tiny, video, "What happens? " * 100, "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")


def test_verbose_names_model_and_device(tiny: Path, video: Path) -> None:
    done = run(tiny, video, "What happens?", "--verbose")
    assert "model: tiny, native on cpu in " in done.stderr
    assert "max_new_tokens=8" in done.stderr
    assert "Frame from 00:00" in done.stderr
    assert "of 2048 tokens" in done.stderr  # and the footer


def test_explicit_filmstrip_goes_to_stderr(tiny: Path, video: Path) -> None:
    done = run(tiny, video, "What happens?", "--filmstrip", "times", "--max-frames", "3")
    assert done.stderr.splitlines()[0].startswith("clip.mp4 · 0:04 · ")
    assert "0:00" in done.stderr
    assert "0:00" not in done.stdout


def test_several_sources_form_one_prompt(tiny: Path, video: Path, tmp_path: Path) -> None:
    picture = tmp_path / "still.png"
    Image.new("RGB", (64, 48), "red").save(picture)
    done = run(tiny, video, picture, "What has changed?", "--json", "--max-frames", "4")
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert [source["kind"] for source in record["sources"]] == ["video", "image"]
    assert [len(source["frame_times"]) for source in record["sources"]] == [3, 1]


def test_window_requires_a_video(tiny: Path, video: Path, tmp_path: Path) -> None:
    picture = tmp_path / "still.png"
    Image.new("RGB", (64, 48), "red").save(picture)
    for window in (("--start", "1"), ("--end", "50%")):
        alone = run(tiny, picture, "What is it?", *window)
        assert (alone.exit_code, alone.stdout) == (2, "")
        assert "`still.png` is a still picture: it has no time to start or end at" in alone.stderr
        assert "hint: leave `--start` and `--end` out" in alone.stderr
    beside = run(tiny, video, picture, "What has changed?", "--json", "--start", "2")
    record = json.loads(beside.stdout)
    assert min(record["sources"][0]["frame_times"]) == 2
    assert "note: `still.png` is a still picture" in beside.stderr
    assert any("still picture" in notice for notice in record["notices"])


@pytest.mark.parametrize("given", [("--fps", "2"), ("--seek", "keyframes")])
def test_rate_of_an_image_has_a_notice(
    tiny: Path, video: Path, tmp_path: Path, given: tuple[str, str]
) -> None:
    picture = tmp_path / "still.png"
    Image.new("RGB", (64, 48), "red").save(picture)
    alone = run(tiny, picture, "What is it?", *given)
    assert alone.exit_code == 0
    assert "note: `still.png` is a still picture: it has no rate" in alone.stderr
    beside = run(tiny, video, picture, "What has changed?", *given)
    assert "has no rate" not in beside.stderr


SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nA ball rolls.\n"


@pytest.mark.parametrize("wanted", ["auto", "file"])
def test_subtitles_are_in_the_prompt(tiny: Path, tmp_path: Path, video: Path, wanted: str) -> None:
    copy = tmp_path / "film.mp4"
    copy.write_bytes(video.read_bytes())
    sidecar = tmp_path / ("film.srt" if wanted == "auto" else "other.srt")
    sidecar.write_text(SUBTITLES)
    chosen = "auto" if wanted == "auto" else str(sidecar)
    done = run(tiny, copy, "What happens?", "--subtitles", chosen, "--verbose")
    assert done.exit_code == 0
    assert "00:01 A ball rolls." in done.stderr


def test_guessed_subtitle_encoding_is_reported_and_recorded(
    tiny: Path, tmp_path: Path, video: Path
) -> None:
    said = "Я ждал тебя возле дома, но ты так и не пришла."
    sidecar = tmp_path / "old.srt"
    sidecar.write_bytes(SUBTITLES.replace("A ball rolls.", said).encode("cp1251"))
    notice = "is not UTF-8; that its encoding is cp1251 is a guess"
    done = run(tiny, video, "What happens?", "--subtitles", str(sidecar), "--json", "--verbose")
    assert done.exit_code == 0
    assert f"00:01 {said}" in done.stderr
    assert notice in " ".join(done.stderr.split())
    assert [one for one in json.loads(done.stdout)["notices"] if one.endswith(notice)]


def test_subtitles_never_become_special_tokens(tiny: Path, tmp_path: Path, video: Path) -> None:
    sidecar = tmp_path / "odd.srt"
    markers = "<image> &lt;image&gt; <fake_token_around_image><|im_end|> <end_of_utterance>"
    counts = []
    for text in ("A ball rolls.", f"A ball {markers} rolls."):
        sidecar.write_text(SUBTITLES.replace("A ball rolls.", text))
        done = run(tiny, video, "What happens?", "--subtitles", str(sidecar), "--json")
        counts.append(len(json.loads(done.stdout)["sources"][0]["frame_times"]))
        assert done.exit_code == 0
    assert counts[0] == counts[1], "a marker that became an image token would have no frame"


def test_missing_subtitles_are_an_error(tiny: Path, video: Path) -> None:
    done = run(tiny, video, "What happens?", "--subtitles", "auto")
    assert done.exit_code == 3
    assert "no subtitles beside `clip.mp4`" in done.stderr
    done = run(tiny, video, video, "What happens?", "--subtitles", "auto")
    assert done.exit_code == 2


def test_nano_on_real_footage_has_a_notice(video: Path) -> None:
    from smolvideo.models import open_checkpoint

    nano = open_checkpoint("nano")
    done = CliRunner().invoke(cli, ["ask", str(video), "What happens?", "--max-new-tokens", "2"])
    assert done.exit_code == 0
    assert nano.layout == "nano"
    assert "nano is a small model trained on drawn scenes" in done.stderr
    assert "`--model smolvlm2-256m`" in done.stderr


def test_source_errors_come_before_the_model(tmp_path: Path) -> None:
    done = run(Path("no-such-model"), tmp_path / "nowhere.mp4", "What happens?")
    assert done.exit_code == 3


def test_engine_loading_starts_at_the_first_frame() -> None:
    loaded: list[str] = []
    seen: list[Progress] = []

    def load():  # type: ignore[no-untyped-def]
        loaded.append("engine")
        return loaded

    loading = BackgroundEngine(load)
    report = loading.start_on_first_frame(seen.append)
    for progress in (Progress("download", 5, 9), Progress("decode", 0, 2), Progress("prefill", 1)):
        report(progress)
    assert loading._thread is None
    report(Progress("decode", 1, 2))
    assert loading._thread is not None
    report(Progress("decode", 2, 2))
    assert loading.result() is loaded
    assert loaded == ["engine"]
    assert len(seen) == 5


def test_engine_loading_error_is_raised_by_result() -> None:
    def load():  # type: ignore[no-untyped-def]
        raise ModelError("too large")

    loading = BackgroundEngine(load)
    loading.begin()
    with pytest.raises(ModelError, match="too large"):
        loading.result()


def test_continue_without_the_video_is_an_error(tiny: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", evenly(4, 10)).path
    assert run(tiny, clip, "What?").exit_code == 0
    clip.unlink()
    done = CliRunner().invoke(cli, ["ask", "--continue", "And then?"])
    assert done.exit_code == 3
    assert "`clip.mp4` cannot be looked at any longer" in done.stderr
    assert "smolvideo ask --continue VIDEO" in done.stderr
