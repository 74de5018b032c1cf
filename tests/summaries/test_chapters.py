"""Chapters: merging of similar neighbouring notes, and their titles."""

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from smolvideo.summaries.record_log import Note
from smolvideo.summaries.summariser import (
    MAX_TITLE_LENGTH,
    max_chapters,
    merge_notes,
    title_from,
    word_jaccard,
)


def notes(*told: tuple[str, bool]) -> list[Note]:
    return [
        Note(10.0 * place, 10.0 * place + 10, text, change)
        for place, (text, change) in enumerate(told)
    ]


def starts(joined: list[Note]) -> list[float]:
    return [chapter.start_seconds for chapter in merge_notes(joined)]


def test_equal_notes_are_one_chapter_until_they_change() -> None:
    told = notes(("A dog.", False), ("a dog", True), ("A red car.", True), ("A red car.", False))
    assert starts(told) == [0, 20]


def test_similar_notes_without_a_shot_change_are_one_chapter() -> None:
    same = ("A green star on a grey background.", "A green star moves left on a grey background.")
    assert starts(notes((same[0], False), (same[1], False))) == [0]
    assert starts(notes((same[0], False), (same[1], True))) == [0, 10]


def test_chapter_has_the_text_of_its_most_frequent_note() -> None:
    often, once = "A star on grey.", "A star moves on grey."
    (chapter,) = merge_notes(notes((often, False), (once, False), (often, False)))
    assert chapter.texts() == [(0.0, often)]


def test_most_similar_chapters_are_merged_above_the_maximum() -> None:
    words = ("cats sleep", "dogs run", "dogs run fast", "birds fly", "fish swim", "fish swim deep")
    told = notes(*((text, True) for text in (*words, "cows eat", "sheep look")))
    assert max_chapters(len(told)) == 6
    assert starts(told) == [0, 10, 30, 40, 60, 70]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=40))
def test_chapters_hold_all_notes_in_order(told: list[tuple[str, bool]]) -> None:
    given_notes = notes(*told)
    chapters = merge_notes(given_notes)
    assert [note for chapter in chapters for note in chapter.notes] == given_notes
    assert len(chapters) <= max_chapters(len(told))
    for before, after in pairwise(chapters):
        assert before.end_seconds == after.start_seconds


@given(st.text(max_size=30), st.text(max_size=30))
def test_similarity_is_symmetric_and_between_0_and_1(one: str, other: str) -> None:
    assert 0 <= word_jaccard(one, other) <= 1
    assert word_jaccard(one, other) == word_jaccard(other, one)
    assert word_jaccard(one, one) == 1


@given(st.text(max_size=300))
def test_title_is_one_short_line(text: str) -> None:
    title = title_from(text)
    assert len(title) <= MAX_TITLE_LENGTH
    assert "\n" not in title


def test_titles_are_extracted_from_model_output() -> None:
    assert title_from('"A Day at the Beach"\nmore') == "A Day at the Beach"
    assert title_from("- A dog runs. It barks.") == "A dog runs"
    assert title_from("word " * 40).endswith("word…")


def test_shortest_of_equally_similar_chapters_are_merged() -> None:
    words = ("cats", "dogs", "birds", "fish", "cows", "sheep", "goats", "bees")
    lengths = (30, 30, 30, 30, 5, 5, 30, 30)
    ends = list(accumulate(lengths))
    told = [
        Note(end - length, end, text, True)
        for end, length, text in zip(ends, lengths, words, strict=True)
    ]
    assert max_chapters(len(told)) == 6
    joined = [(one.start_seconds, one.end_seconds) for one in merge_notes(told)]
    # The two of 5 s first, then the result with the first of its equal neighbours.
    assert joined == [(0, 30), (30, 60), (60, 90), (90, 130), (130, 160), (160, 190)]
