"""Data files of all forms, and every fault with its line number."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.errors import RecordError
from smolvideo.tune.lines import DataLine, MediaRef, Turn, faults_error, read_lines
from smolvideo.tune.vqa import read_vqa

QUESTION = {"question": "What is it?", "answer": "a cat"}
USER = {"role": "user", "content": "What is it?"}
ASSISTANT = {"role": "assistant", "content": "a cat"}


def read(tmp_path: Path, *lines: object, pairs: bool = False) -> list[DataLine]:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = read_lines(file, pairs=pairs)
    assert not found.faults, found.faults
    return list(found.lines)


def fault(tmp_path: Path, line: object, *, pairs: bool = False) -> str:
    file = tmp_path / "data.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    file.write_text(f"\n{text}\n", encoding="utf-8")
    found = read_lines(file, pairs=pairs)
    assert not found.lines
    (only,) = found.faults
    assert only.number == 2  # blank lines count
    return only.reason


@pytest.mark.parametrize(
    "line",
    [
        {"video": "a.mp4", **QUESTION},
        {"videos": ["a.mp4"], **QUESTION},
        {"image": "a.mp4", **QUESTION, "id": 7},
        {"sources": [{"path": "a.mp4"}], **QUESTION},
        {"messages": [USER, ASSISTANT], "video": "a.mp4"},
        {"images": ["a.mp4"], "prompt": [USER], "completion": [ASSISTANT]},
        {"images": ["a.mp4"], "prompt": "What is it?", "completion": "a cat"},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "video", "path": "a.mp4"},
                        {"type": "text", "text": "What is it?"},
                    ],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]},
            ]
        },
        {
            "images": ["a.mp4"],
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}],
                },
                ASSISTANT,
            ],
        },
    ],
)
def test_all_forms_give_the_same_line(line: object, tmp_path: Path) -> None:
    assert read(tmp_path, line) == [DataLine(1, (MediaRef("a.mp4"),), "What is it?", "a cat")]


def test_every_turn_of_a_conversation_is_an_item_after_those_before(tmp_path: Path) -> None:
    more = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "yes"}]
    first, second = read(tmp_path, {"messages": [USER, ASSISTANT, *more], "video": "a.mp4"})
    assert (first.answer, first.history) == ("a cat", ())
    assert (second.question, second.answer) == ("Sure?", "yes")
    assert second.history == (Turn("What is it?", "a cat"),)


def test_windows_in_seconds(tmp_path: Path) -> None:
    (line,) = read(tmp_path, {"video": "a.mp4", "start": 1, "end": 2.5, **QUESTION})
    assert line.media == (MediaRef("a.mp4", 1.0, 2.5),)
    two = [{"path": "a.mp4", "start": 1}, {"path": "b.mp4", "end": 3}]
    (line,) = read(tmp_path, {"videos": two, **QUESTION})
    assert line.media == (MediaRef("a.mp4", 1.0), MediaRef("b.mp4", None, 3.0))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ({"video": "a.mp4", "question": "What?", "answer": "  "}, "the answer is empty"),
        ({"video": "a.mp4", "question": "What?"}, "`answer` is missing"),
        ({"video": "a.mp4", "question": "", "answer": "x"}, "the question is empty"),
        ({"video": "a.mp4", "question": 3, "answer": "x"}, "`question` must be a text"),
        ({"vidoe": "a.mp4", **QUESTION}, "unknown key `vidoe`"),
        ({"video": 3, **QUESTION}, "`video` must name a file"),
        ({"video": "", **QUESTION}, "`video` must name a file"),
        ({"video": "a.mp4", "start": 5, "end": 5, **QUESTION}, "`end` 5 is not after `start` 5"),
        ({"video": "a.mp4", "start": -1, **QUESTION}, "`start` must be seconds"),
        ({"video": "a.mp4", "start": True, **QUESTION}, "`start` must be seconds"),
        ({"videos": ["a", "b"], "start": 1, **QUESTION}, "of one video"),
        ({"messages": [ASSISTANT, USER]}, "must alternate"),
        ({"messages": [USER]}, "the last message must be the assistant's"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "the answer is empty"),
        ({"messages": [{"role": "system", "content": "Be brief."}, USER]}, "not of 'system'"),
        ({"messages": []}, "must be a list that is not empty"),
        ({"prompt": [USER]}, "needs a `completion`"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}, ASSISTANT]},
            "more `image` parts",
        ),
        (
            {
                "images": ["a.jpg", "b.jpg"],
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": "What?"}],
                    },
                    ASSISTANT,
                ],
            },
            "1 files more than `image` parts",
        ),
    ],
)
def test_faults_are_named_by_line(line: object, reason: str, tmp_path: Path) -> None:
    assert reason in fault(tmp_path, line)


def test_pairs(tmp_path: Path) -> None:
    line = {"video": "a.mp4", "question": "What?", "chosen": "cat", "rejected": "It is a cat."}
    (found,) = read(tmp_path, line, pairs=True)
    assert (found.answer, found.rejected) == ("cat", "It is a cat.")
    conversation = {"images": ["a.mp4"], "prompt": [USER]}
    answers = {"chosen": [ASSISTANT], "rejected": [{"role": "assistant", "content": "a dog"}]}
    (found,) = read(tmp_path, {**conversation, **answers}, pairs=True)
    assert (found.question, found.answer, found.rejected) == ("What is it?", "a cat", "a dog")
    same = {**line, "rejected": "cat "}
    assert "are the same" in fault(tmp_path, same, pairs=True)
    assert "`rejected` is missing" in fault(
        tmp_path, {"video": "a", "question": "?", "chosen": "x"}, pairs=True
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["video", "start", "question", "answer", "messages", "role", "content"]
                )
                | st.text(max_size=4),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_line_or_a_fault(value: object) -> None:
    from smolvideo.tune.lines import _items

    lines = []
    with suppress(ValueError):  # what is no line raises nothing else
        lines = list(_items(1, value))
    assert all(line.answer.strip() and line.question.strip() for line in lines)


def test_duplicate_keys_are_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"video": "a.mp4", "question": "?", "answer": "a", "answer": "b"}\n')
    assert [str(one) for one in read_lines(file).faults] == ["line 1: duplicate key 'answer'"]


def test_error_counts_what_it_does_not_name(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("{\n" * 20, encoding="utf-8")
    error = faults_error(file, read_lines(file).faults, 20)
    assert "20 lines of 20" in str(error)
    assert "JSON object" in str(error.hint), "none is left without them"
    assert "--skip-faulty" in str(faults_error(file, read_lines(file).faults, 21).hint)
    assert "line 8: " in str(error)
    assert "and 12 more" in str(error)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_file_without_lines_is_an_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    with pytest.raises(RecordError, match="has no lines"):
        read_lines(file)
    with pytest.raises(RecordError, match="is a folder"):
        read_lines(tmp_path)


def test_vqav2_files(tmp_path: Path) -> None:
    questions = [
        {"image_id": 42, "question": "What colour?", "question_id": 420},
        {"image_id": 43, "question": "How many?", "question_id": 430},
        {"image_id": 44, "question": "Where?", "question_id": 440},
    ]
    file = tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json"
    file.write_text(json.dumps({"questions": questions, "data_subtype": "val2014"}))
    with pytest.raises(RecordError, match="no annotations of `val2014`"):
        read_vqa(file)
    answers = [
        {"question_id": 420, "multiple_choice_answer": "red"},
        {"question_id": 430, "multiple_choice_answer": "2"},
    ]
    (tmp_path / "v2_mscoco_val2014_annotations.json").write_text(
        json.dumps({"annotations": answers, "data_subtype": "val2014"})
    )
    (tmp_path / "COCO_val2014_000000000043.jpg").touch()
    data = read_vqa(file)
    assert [(line.question, line.answer) for line in data.lines] == [
        ("What colour?", "red"),
        ("How many?", "2"),
    ]
    assert data.lines[0].media == (MediaRef("val2014/COCO_val2014_000000000042.jpg"),)
    assert data.lines[1].media == (MediaRef("COCO_val2014_000000000043.jpg"),)
    assert [str(fault) for fault in data.faults] == ["line 3: question 440 has no annotation"]
    file.write_text("[]")
    with pytest.raises(RecordError, match="no JSON object"):
        read_vqa(file)
