"""Replays are equal on both engines, and name each planted difference."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import record_schemas
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.engines import Engine, load_engine
from smolvideo.evidence import (
    AnswerScores,
    answers_alike,
    check_answer,
    explain_answer,
    open_session,
)
from smolvideo.models import open_checkpoint
from smolvideo.pipeline import answer_by_choice, prepare, record_answer, stream_answer
from smolvideo.record_parts import RecordHashes
from smolvideo.records import AnswerRecord, read_records
from smolvideo.replay import ReplayOptions, ReplayResult, open_replays
from smolvideo.replay.engines import EnginePool
from smolvideo.sampling import FrameSampling

SHOTS = ROOT / "samples" / "three_shots.mp4"
CIRCLE = ROOT / "samples" / "circle_right.mp4"
FEW = FrameSampling(max_frames=6)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("nano", device="cpu")


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    pool = EnginePool(ReplayOptions())
    yield pool
    pool.close()


def recorded(engine: Engine, video: Path, question: str = "What comes first?") -> AnswerRecord:
    prepared = prepare(engine.checkpoint, str(video), question, sampling=FEW)
    return record_answer(prepared, engine, stream_answer(engine, prepared).result())


@pytest.fixture(scope="module")
def record(engine: Engine) -> AnswerRecord:
    return recorded(engine, SHOTS)


def replayed(tmp_path: Path, record: AnswerRecord, pool: EnginePool) -> ReplayResult:
    path = tmp_path / "answers.jsonl"
    path.write_text(record.to_json() + "\n", encoding="utf-8")
    (result,) = open_replays(path, pool)
    record_schemas.validate("replay", json.loads(json.dumps(result.to_dict())))
    return result


@pytest.mark.parametrize("name", ["native", "transformers"])
def test_equal_records_replay_equal(name: str, tmp_path: Path, pool: EnginePool) -> None:
    with load_engine("nano", device="cpu", engine=name) as engine:
        result = replayed(tmp_path, recorded(engine, SHOTS), pool)
    assert result.is_equal, result
    assert result.compared[0] == "file"
    assert result.compared[-1] == "answer"
    assert len(result.compared) == 9


def test_choices_and_subtitles_replay_equal(
    engine: Engine, tmp_path: Path, pool: EnginePool
) -> None:
    prepared = prepare(
        engine.checkpoint, [str(CIRCLE), str(SHOTS)], "What?", sampling=FEW, subtitles="00:01 Hi"
    )
    answer = answer_by_choice(engine, engine.checkpoint, prepared, ["red", "blue"])
    record = record_answer(prepared, engine, answer)
    assert record.subtitles == "00:01 Hi"
    assert replayed(tmp_path, record, pool).is_equal
    assert record.choices is not None
    heavier = replace(record, choices=replace(record.choices, mass=0.1))
    assert "together was 0.1000" in str(replayed(tmp_path, heavier, pool).first)
    unhashed = replace(record, sources=tuple(replace(one, sha256=None) for one in record.sources))
    assert "not compared" in replayed(tmp_path, unhashed, pool).notices[0]
    other = replace(record.choices, probabilities={"red": 0.5, "blue": 0.5})
    result = replayed(tmp_path, replace(record, choices=other), pool)
    assert result.first is not None
    assert result.first.step == "answer"


def test_changed_file_is_named(engine: Engine, tmp_path: Path, pool: EnginePool) -> None:
    video = tmp_path / "v.mp4"
    shutil.copy(SHOTS, video)
    record = recorded(engine, video)
    shutil.copy(CIRCLE, video)
    result = replayed(tmp_path, record, pool)
    assert result.first is not None
    assert result.first.step == "file"
    assert "another content" in result.first.text
    video.unlink()
    result = replayed(tmp_path, record, pool)
    assert result.first is not None
    assert "not found" in result.first.text
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(SHOTS, moved / "v.mp4")
    here = EnginePool(ReplayOptions(folder=moved))
    assert replayed(tmp_path, record, here).is_equal
    here.close()


def test_other_reader_and_other_dtype_are_named(tmp_path: Path, record: AnswerRecord) -> None:
    pytest.importorskip("cv2")
    for options, step in (
        (ReplayOptions(reader="opencv"), "reader"),
        (ReplayOptions(dtype="bfloat16"), "arithmetic"),
        (ReplayOptions(engine="transformers"), "arithmetic"),
    ):
        pool = EnginePool(options)
        result = replayed(tmp_path, record, pool)
        pool.close()
        assert result.first is not None
        assert result.first.step == step


@pytest.mark.parametrize(
    ("changed", "step", "said"),
    [
        ({"question": "What comes last?"}, "prompt", "token ids"),
        ({"text": "a red star"}, "answer", "`star`, and is `circle`"),
        ({"text": "a red circle and a star"}, "answer", "and is its end"),
        ({"versions": {"torch": "1.0"}}, "versions", "torch: 1.0 in the record"),
        ({"model": "nothing/here"}, "model", "nothing/here"),
        ({"stop_reason": "length"}, "answer", "length in the record"),
    ],
)
def test_edited_record_is_named(
    changed: dict[str, object],
    step: str,
    said: str,
    tmp_path: Path,
    record: AnswerRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pool = EnginePool(ReplayOptions(offline=True))
    result = replayed(tmp_path, replace(record, **changed), pool)  # type: ignore[arg-type]
    pool.close()
    assert result.first is not None
    assert result.first.step == step
    assert said in result.first.text


def test_frame_with_other_pixels_is_named_with_its_time(
    tmp_path: Path, record: AnswerRecord, pool: EnginePool
) -> None:
    assert record.hashes is not None
    frames = list(record.hashes.frames)
    frames[2] = "0" * 32
    hashes = RecordHashes(tuple(frames), record.hashes.prompt, record.hashes.weights)
    result = replayed(tmp_path, replace(record, hashes=hashes), pool)
    assert result.first is not None
    assert "frame 3, at 0:0" in result.first.text
    assert "answer" not in result.compared


def test_other_weights_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(open_checkpoint("nano").folder, folder)
    with load_engine(folder, device="cpu") as engine:
        record = recorded(engine, SHOTS)
    pool = EnginePool(ReplayOptions(model=str(folder)))
    assert replayed(tmp_path, record, pool).is_equal
    (weights,) = folder.glob("*.safetensors")
    with weights.open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\1")
    pool = EnginePool(ReplayOptions(model=str(folder)))
    result = replayed(tmp_path, record, pool)
    assert result.first is not None
    assert result.first.step == "weights"


def test_edited_evidence_is_named(engine: Engine, tmp_path: Path, pool: EnginePool) -> None:
    prepared = prepare(engine.checkpoint, str(SHOTS), "What colour is the star?", sampling=FEW)
    session = open_session(engine, prepared)
    assert session is not None
    answer = stream_answer(session, prepared).result()
    why = explain_answer(AnswerScores(session, engine.checkpoint, prepared, answer))
    asking = answers_alike(prepared, engine, session)
    check = check_answer(asking, engine.checkpoint, prepared, answer)
    proved = replace(answer, evidence=why, check=check)
    record = record_answer(prepared, engine, proved)
    result = replayed(tmp_path, record, pool)
    assert result.is_equal, result
    assert result.compared[-1] == "evidence"
    (frame, *_) = why.frames
    for changed, said in (
        ({"check": replace(check, verdict="blind")}, "check: blind in the record, stands now"),
        ({"check": replace(check, blind="a dog")}, "answer with grey frames: a dog"),
        ({"check": replace(check, depends_on_order=not check.depends_on_order)}, "on the order: "),
        ({"check": replace(check, text="it stands")}, "sentence of the check: it stands"),
        ({"evidence": replace(why, text="all of it")}, "sentence of the evidence: all of it"),
        ({"evidence": replace(why, verdict="order")}, "why: order in the record"),
        ({"evidence": replace(why, frames=())}, "were none, and are "),
        ({"evidence": replace(why, score=0.1)}, "the score was 0.1000"),
        ({"evidence": replace(why, frames=(replace(frame, kept=0.1),))}, "keeps was 0.1000"),
    ):
        result = replayed(tmp_path, replace(record, **changed), pool)  # type: ignore[arg-type]
        assert result.first is not None
        assert result.first.step == "evidence"
        assert said in result.first.text


def test_records_that_cannot_be_replayed_are_skipped(
    tmp_path: Path, record: AnswerRecord, pool: EnginePool
) -> None:
    for changed, said in (
        (replace(record, history=2), "conversation"),
        (replace(record, engine="openai"), "server"),
        (replace(record, text=None, error="broken", hint=None), "error"),
    ):
        result = replayed(tmp_path, changed, pool)
        assert said in str(result.skipped)
        assert not result.is_equal


def test_record_of_version_1_is_replayed_without_hashes(
    tmp_path: Path, record: AnswerRecord, pool: EnginePool
) -> None:
    content = json.loads(record.to_json())
    for name in ("hashes", "subtitles", "history", "check", "evidence"):
        del content[name]
    content |= {"record": "smolvideo.answer/1", "quantise": content.pop("quantize")}
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    (result,) = open_replays(path, pool)
    assert result.is_equal, result
    assert "no hashes" in result.notices[0]


def test_summaries_and_eval_runs_replay_from_the_command(tmp_path: Path) -> None:
    def run(*words: str | Path, code: int = 0) -> str:
        done = CliRunner().invoke(cli, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return done.stdout

    video, out = tmp_path / "v.mp4", tmp_path / "out"
    shutil.copy(SHOTS, video)
    run("summarise", video, "--out", out, "--window", "3", "--max-frames", "4", "--check", "1")
    records = out / "summaries.jsonl"
    assert run("replay", records).startswith("1  equal")
    edited = tmp_path / "edited.jsonl"
    edited.write_text(
        records.read_text("utf-8").replace("blue star", "red cross"), encoding="utf-8"
    )
    assert "answer: the note of window" in run("replay", edited, code=6)
    edited.write_text(records.read_text("utf-8").replace('"stands"', '"blind"'), encoding="utf-8")
    assert "evidence: check: blind in the record" in run("replay", edited, code=6)
    questions = tmp_path / "q.jsonl"
    item = {"id": "a", "video": "v.mp4", "question": "What comes first?", "answer_index": 0}
    item["options"] = ["a red circle", "a dog"]  # type: ignore[assignment]
    questions.write_text(json.dumps(item) + "\n", encoding="utf-8")
    folder = tmp_path / "run"
    few = ("--max-frames", "4", "--scoring", "options", "--control", "blind")
    run("eval", questions, "--videos", tmp_path, "--run", folder, *few)
    results = run("replay", folder, "--videos", tmp_path, "--json").splitlines()
    assert [json.loads(line)["equal"] for line in results] == [True, True]
    shutil.copy(CIRCLE, video)
    line = run("replay", folder, "--videos", tmp_path, "--line", "1", "--json", code=6)
    assert json.loads(line)["differences"][0]["step"] == "file"
    assert "file: `v.mp4`" in run("replay", records, code=6)


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"record": "smolvideo.x/1"}\n', b"\xff\0\n"])
def test_files_without_records_are_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    done = CliRunner().invoke(cli, ["replay", str(path)])
    assert done.exit_code == 5
    assert "does not hold records" in done.stderr
    done = CliRunner().invoke(cli, ["replay", str(tmp_path / "missing.jsonl")])
    assert done.exit_code == 5


def test_damaged_settings_are_an_error(tmp_path: Path, record: AnswerRecord) -> None:
    path = tmp_path / "a.jsonl"
    settings = {**record.settings, "fps": "often"}
    path.write_text(replace(record, settings=settings).to_json() + "\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["replay", str(path)])
    assert done.exit_code in (2, 5), done.stderr
    assert "unexpected" not in done.stderr
    assert read_records(path)
