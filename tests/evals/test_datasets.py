"""Benchmark loaders on handmade files in the published schemas, with their pitfalls."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.errors import SourceError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.datasets.option_notation import strip_option_letters
from smolvideo.evals.datasets.schemas.cinepile import CATEGORIES, video_id_of
from smolvideo.evals.datasets.table_files import as_index, read_rows


def cinepile_row(**changes: Any) -> dict[str, Any]:
    """Return a row as in the dataset's viewer: booleans as text, line breaks in categories."""
    row = {
        "movie_name": "Heat",
        "year": 1995,
        "genre": ["Crime", "Drama"],
        "yt_clip_title": "The diner",
        "yt_clip_link": "https://www.youtube.com/watch?v=xkBYe0lbD4A",
        "movie_scene": "SECRET: the answer is in here",
        "subtitles": "<subtitle> What's up?\n<subtitle> Nothing.",
        "question": "Who sits down first?",
        "choices": ["Vincent", "Neil", "Chris", "Justine", "Eady"],
        "answer_key": "Neil",
        "answer_key_position": 1,
        "question_category": CATEGORIES[0],
        "hard_split": "False",
        "visual_reliance": "True",
    }
    return row | changes


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_cinepile_rows(tmp_path: Path) -> None:
    rows = [
        cinepile_row(),
        cinepile_row(
            videoID="abc-DEF_123",
            question_category="Temporal",
            hard_split="True",
            answer_key="Eady",
            answer_key_position="4",
        ),
        cinepile_row(yt_clip_link="https://youtu.be/xkBYe0lbD4A?si=x", answer_key_position=None),
    ]
    benchmark = load_benchmark("cinepile", write_json(tmp_path / "test.json", rows))
    first, second, third = benchmark.items
    assert benchmark.notices == ()
    assert (first.id, first.question, first.answer_index) == ("0", "Who sits down first?", 1)
    assert first.options == ("Vincent", "Neil", "Chris", "Justine", "Eady")
    assert first.groups == {
        "category": "Character and Relationship Dynamics",
        "hard_split": "False",
        "visual_reliance": "True",
    }
    assert first.video == "xkBYe0lbD4A", "v1 has no videoID"
    assert "Heat_watch?v=xkBYe0lbD4A" in first.video_names
    assert first.subtitles == "<subtitle> What's up?\n<subtitle> Nothing."
    assert (second.video, second.answer_index) == ("abc-DEF_123", 4)
    assert second.groups["hard_split"] == "True"
    assert (third.video, third.answer_index) == ("xkBYe0lbD4A", 1), "by the text of the answer"
    assert "SECRET" not in repr(benchmark), "the text that questions are made from is not shown"


def test_cinepile_in_csv_and_parquet(tmp_path: Path) -> None:
    import csv

    rows = [cinepile_row(videoID=f"video{number:05d}", year=number) for number in range(3)]
    path = tmp_path / "test.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    expected = load_benchmark("cinepile", write_json(tmp_path / "test.json", rows)).items
    assert load_benchmark("cinepile", path).items == expected
    core = pytest.importorskip("arro3.core")
    io = pytest.importorskip("arro3.io")
    kinds = {int: core.DataType.int64(), str: core.DataType.utf8()}
    columns = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, list):
            flat = core.Array([text for texts in values for text in texts], type=kinds[str])
            ends = [place * len(value) for place in range(len(rows) + 1)]
            columns[name] = core.list_array(core.Array(ends, type=core.DataType.int32()), flat)
        else:
            columns[name] = core.Array(values, type=kinds[type(value)])
    for name in ("test.parquet", "mes données %20.parquet"):
        (tmp_path / "é").mkdir(exist_ok=True)
        io.write_parquet(core.Table(columns), str(tmp_path / "é" / name))
        assert load_benchmark("cinepile", tmp_path / "é" / name).items == expected


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_duplicate_keys_are_an_error(name: str, tmp_path: Path) -> None:
    row = '{"question": "?", "answer": "yes", "answer": "no"}'
    (tmp_path / name).write_text(f"[{row}]" if name == "a.json" else row)
    with pytest.raises(SourceError, match="duplicate key 'answer'"):
        read_rows(tmp_path / name)


def test_damaged_parquet_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    core, io = pytest.importorskip("arro3.core"), pytest.importorskip("arro3.io")
    path = tmp_path / "test.parquet"
    with pytest.raises(SourceError, match=r"cannot read .*: No such file"):
        read_rows(path)
    texts = core.Array(["some text"] * 50, type=core.DataType.utf8())
    io.write_parquet(core.Table({"question": texts}), str(path))
    good = path.read_bytes()
    assert read_rows(path) == [{"question": "some text"}] * 50
    noise = bytes(range(1, 256)) * 2
    damaged = [b"", good[:-1], good[1:], noise, b"PAR1", b"PAR1" + noise + b"PAR1"]
    for at in range(4, len(good) - 4, 9):
        damaged.append(good[:at] + bytes(255 - byte for byte in good[at : at + 4]) + good[at + 4 :])
    reasons = []
    for content in damaged:
        path.write_bytes(content[:-4] + good[-4:] if len(content) == len(good) else content)
        try:
            read_rows(path)
        except SourceError as error:
            reasons.append(str(error))
    assert len(reasons) > len(damaged) / 2
    assert all("cannot be understood" in reason and "\n" not in reason for reason in reasons)
    assert "panicked" not in capfd.readouterr().err


def test_missing_parquet_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "arro3.io", None)
    (tmp_path / "test.parquet").write_bytes(b"PAR1PAR1")
    with pytest.raises(SourceError, match="one more package") as raised:
        load_benchmark("cinepile", tmp_path / "test.parquet")
    assert "smolvideo[eval]" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://www.youtube.com/watch?v=xkBYe0lbD4A", "xkBYe0lbD4A"),
        ("https://www.youtube.com/watch?t=4&v=xkBYe0lbD4A&ab_channel=x", "xkBYe0lbD4A"),
        ("https://youtu.be/xkBYe0lbD4A?t=4", "xkBYe0lbD4A"),
        ("https://www.youtube.com/embed/xkBYe0lbD4A/", "xkBYe0lbD4A"),
        ("https://www.youtube.com/watch", None),
        ("http://[broken", None),
        ("", None),
    ],
)
def test_youtube_ids_of_links(link: str, expected: str | None) -> None:
    assert video_id_of(link) == expected


def test_skipped_rows_have_a_notice(tmp_path: Path) -> None:
    rows = [
        cinepile_row(),
        cinepile_row(answer_key_position=7),
        cinepile_row(answer_key="Chris"),
        cinepile_row(choices=["one"]),
        cinepile_row(yt_clip_link=None),
        cinepile_row(question="  "),
    ]
    benchmark = load_benchmark("cinepile", write_json(tmp_path / "test.json", rows))
    assert [item.id for item in benchmark.items] == ["0"], "ids stay those of the rows"
    (notice,) = benchmark.notices
    assert notice.startswith("5 rows are left out: test.json, row 2: `answer_key_position` is 7")
    assert "row 3: `answer_key` is not the choice" in notice
    assert notice.endswith("and 2 more")
    with pytest.raises(SourceError, match="no question"):
        load_benchmark("cinepile", write_json(tmp_path / "none.json", rows[1:]))


def test_video_mme_rows(tmp_path: Path) -> None:
    row = {
        "video_id": "001",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": "https://www.youtube.com/watch?v=fFjv93ACGo8",
        "videoID": "fFjv93ACGo8",
        "question_id": "001-1",
        "task_type": "Counting Problem",
        "question": "How many candles?",
        "options": ["A. One.", "B. Two.", "C. Three.", "D. A. Four."],
        "answer": "C",
    }
    (item,) = load_benchmark("video-mme", write_json(tmp_path / "test.json", [row])).items
    assert (item.id, item.video, item.answer_index) == ("001-1", "fFjv93ACGo8", 2)
    assert item.options == ("One.", "Two.", "Three.", "A. Four.")
    assert item.groups["duration"] == "short"
    assert item.subtitle_names == ("fFjv93ACGo8.srt", "fFjv93ACGo8.vtt")


def test_mvbench_numeric_answers_are_texts_not_indices(tmp_path: Path) -> None:
    write_json(
        tmp_path / "moving_count.json",
        [
            {
                "video": "v1.mp4",
                "question": "How many?",
                "candidates": ["3", "0", "1"],
                "answer": "0",
            }
        ],
    )
    write_json(
        tmp_path / "action_sequence.json",
        [
            {
                "video": "ZS9XR.mp4",
                "question": "What happened?",
                "candidates": ["Threw.", "Sat."],
                "answer": "Sat.",
                "start": 11.1,
                "end": 20,
            }
        ],
    )
    sequence, count = load_benchmark("mvbench", tmp_path).items
    assert (count.id, count.answer_index, count.groups) == (
        "moving_count/0",
        1,
        {"task": "moving_count"},
    )
    assert (sequence.start_seconds, sequence.end_seconds) == (11.1, 20.0)


def test_duplicate_mvbench_candidates_count_as_the_first(tmp_path: Path) -> None:
    """Candidates may be equal, or equal but for case; lmms-eval takes the first."""
    row = {"video": "v.mp4", "question": "Which?", "candidates": ["Put", "put", "up", "put"]}
    rows = [row | {"answer": answer} for answer in ("put", "up", "PUT", "Up")]
    benchmark = load_benchmark("mvbench", write_json(tmp_path / "state_change.json", rows))
    assert [item.answer_index for item in benchmark.items] == [1, 2, 2]
    assert benchmark.notices == (
        "1 row is left out: state_change.json, row 3: "
        "the right answer is 3 of the options, not one",
    )


def test_utf_7_questions_have_a_notice(tmp_path: Path) -> None:
    row = {
        "video": "v.mp4",
        "question": "Was f\u00e4llt?",
        "options": ["a", "b"],
        "answer_index": 0,
    }
    path = tmp_path / "q.jsonl"
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode("utf-7"))
    (notice,) = load_benchmark("jsonl", path).notices
    assert "q.jsonl` looks like UTF-7" in notice
    path.write_bytes(b"+/v8-" + path.read_bytes())
    benchmark = load_benchmark("jsonl", path)
    assert benchmark.items[0].question == row["question"]


def test_egoschema_raw_and_subset(tmp_path: Path) -> None:
    raw = [
        {"q_uid": uid, "question": "Why?", **{f"option {n}": f"reason {n}" for n in range(5)}}
        for uid in ("aa-1", "bb-2", "cc-3")
    ]
    write_json(tmp_path / "questions.json", raw)
    write_json(tmp_path / "subset_answers.json", {"aa-1": 3, "cc-3": 0})
    benchmark = load_benchmark("egoschema", tmp_path)
    assert [(item.id, item.answer_index) for item in benchmark.items] == [("aa-1", 3), ("cc-3", 0)]
    assert benchmark.notices == ("1 questions have no public answer and are left out",)
    subset = {
        "video_idx": "aa-1",
        "question": "Why?",
        "option": [f"{letter}. reason {n}" for n, letter in enumerate("ABCDE")],
        "answer": "3",
    }
    (item,) = load_benchmark("egoschema", write_json(tmp_path / "subset.json", [subset])).items
    assert item == benchmark.items[0]


def test_jsonl_schema(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    line = {"video": "a/b.mp4", "question": "q", "options": ["x", "y"], "answer_index": 1}
    full = line | {"id": "z", "groups": {"by": "me\nand you"}, "start": 3, "end": "9.5"}
    bad = [
        line | {"answer_index": 2},
        line | {"answer_index": True},
        line | {"start": "soon"},
        line | {"groups": "me"},
        line | {"options": ["", "y"]},
        line | {"video": "."},
        line | {"video": "/"},
        line | {"options": ["x", "y", " x "]},
    ]
    path.write_text("\n".join(json.dumps(one) for one in (line, full, *bad)) + "\n\n")
    benchmark = load_benchmark("jsonl", path)
    first, second = benchmark.items
    assert (first.id, first.subtitle_names[0]) == ("row 1", "a/b.srt")
    assert (second.id, second.groups, second.end_seconds) == ("z", {"by": "me and you"}, 9.5)
    assert benchmark.notices[0].startswith("8 rows are left out")
    path.write_text(json.dumps(full) + "\n" + json.dumps(full))
    with pytest.raises(SourceError, match=r"two .* the id `z`: own.jsonl, row 1, and own.jsonl, r"):
        load_benchmark("jsonl", path)


def test_default_ids_of_lines(tmp_path: Path) -> None:
    line = {"video": "a.mp4", "question": "q", "options": ["x", "y"], "answer_index": 1}
    given = [line, line | {"id": "0"}, line | {"id": "1"}, line | {"id": 2}, line]
    text = "\n".join(json.dumps(one) for one in given)
    (tmp_path / "own.jsonl").write_text(text)
    ids = ["row 1", "0", "1", "2", "row 5"]
    assert [item.id for item in load_benchmark("jsonl", tmp_path / "own.jsonl").items] == ids
    (tmp_path / "more.jsonl").write_text(json.dumps(line))
    found = load_benchmark("jsonl", tmp_path).items
    assert [item.id for item in found] == ["more/row 1", "own/row 1", "0", "1", "2", "own/row 5"]
    (tmp_path / "more.jsonl").write_text(json.dumps(line | {"id": "own/row 5"}))
    with pytest.raises(SourceError, match=r"`own/row 5`: more.jsonl, row 1, and own.jsonl, row 5"):
        load_benchmark("jsonl", tmp_path)


def test_equal_options_error_names_the_line(tmp_path: Path) -> None:
    line = {"video": "a.mp4", "question": "q", "options": ["x", "y", "x"], "answer_index": 1}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(SourceError, match=r"own.jsonl, row 1: options 1 and 3 are the same"):
        load_benchmark("jsonl", path)


@pytest.mark.parametrize(
    "content",
    [
        [{"a": 1}, {"a": 2}],
        {"data": [{"a": 1}, {"a": 2}]},
        {"rows": [{"row_idx": 0, "row": {"a": 1}}, {"row_idx": 1, "row": {"a": 2}}]},
        {"a": [1, 2]},
        {"a": {"0": 1, "1": 2}},
    ],
)
def test_json_in_common_shapes(content: Any, tmp_path: Path) -> None:
    assert list(read_rows(write_json(tmp_path / "x.json", content))) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be understood: Expecting value"),
        ("[", "cannot be understood: Expecting value"),
        ("3", "neither a list of rows nor columns"),
        ("[[1]]", "row 1 is not a set of named values"),
        ('{"a": 1}', "neither a list of rows nor columns"),
        ("[]", "holds no questions"),
    ],
)
def test_other_json_is_an_error(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SourceError, match=rf"x\.json`.* ?{told}"):
        read_rows(tmp_path / "x.json")


def test_ids_of_a_folder_contain_the_file_names(tmp_path: Path) -> None:
    for shard in ("test-0", "test-1"):
        write_json(tmp_path / f"{shard}.json", [cinepile_row(), cinepile_row()])
    ids = [item.id for item in load_benchmark("cinepile", tmp_path).items]
    assert ids == ["test-0/0", "test-0/1", "test-1/0", "test-1/1"]


def test_invalid_files_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path / "x.txt", tmp_path):
        with pytest.raises(SourceError):
            load_benchmark("cinepile", path)


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=9))
def test_strip_option_letters_inverts_lettering(options: list[str]) -> None:
    lettered = [f"{letter}. {option}" for letter, option in zip("ABCDEFGHI", options, strict=False)]
    assert strip_option_letters(lettered) == tuple(option.strip() for option in options)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), ("2", 2), (2.0, 2), ("2.0", 2), (True, None), (-1, None), (1.5, None), ("x", None)],
)
def test_as_index(value: Any, expected: int | None) -> None:
    assert as_index(value) == expected


def test_own_questions_without_an_answer_are_asked_on_request(tmp_path: Path) -> None:
    rows = [
        {"video": "a.mp4", "question": "Who?", "options": ["a", "b"], "answer_index": answer}
        for answer in (1, None)
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = load_benchmark("jsonl", path)
    assert [item.answer_index for item in asked.items] == [1]
    assert "1 questions have no public answer" in " ".join(asked.notices)
    every = load_benchmark("jsonl", path, unlabelled=True)
    assert [item.answer_index for item in every.items] == [1, None]
