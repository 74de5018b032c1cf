"""Answer extraction: a table of all cases in which the rules differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.evals.protocol.extract import extract

OPTIONS = ("a man walks", "Because he left", "a dog", "a dog barks", "nobody")
NONE = None

CASES = [
    # answer, right option, official (choice, correct), lenient (choice, how)
    ("A", 0, (0, True), (0, "letter")),
    ("a", 0, (0, True), (0, "letter")),
    ("**B**", 1, (1, True), (1, "letter")),
    (" C ", 2, (2, True), (2, "letter")),
    ("A.", 0, (NONE, False), (0, "letter")),
    ("A)", 0, (NONE, False), (0, "letter")),
    ("(A)", 0, (NONE, False), (0, "letter")),
    ("B:", 1, (NONE, False), (1, "letter")),
    ("Answer: B", 1, (1, True), (1, "letter")),
    ("**Answer:** B", 1, (1, True), (1, "letter")),
    ("answer: b)", 1, (1, True), (1, "letter")),
    ("Answer: B.", 1, (1, True), (1, "letter")),
    ("Answer:B", 1, (1, True), (1, "letter")),
    ("Answer: (B)", 1, (NONE, False), (1, "letter")),
    ("Answer: C) a dog", 2, (2, True), (2, "letter")),
    ("Answer: C) A DOG", 2, (2, True), (2, "letter")),
    ("Answer: D) a dog", 3, (3, False), (3, "letter")),
    ("Answer: C\nbecause it is one", 2, (2, False), (2, "letter")),
    ("Answer: Because he left", 1, (1, False), (1, "text")),
    ("A because he walks", 0, (NONE, False), (0, "letter")),
    ("A. a man walks", 0, (NONE, False), (0, "letter")),
    ("(C) a dog", 2, (NONE, False), (2, "letter")),
    ("C - a dog", 2, (NONE, False), (2, "letter")),
    ("Answer: A because he walks", 0, (0, False), (0, "letter")),
    ("The answer is a dog", 2, (NONE, False), (2, "text")),
    ("The answer is a cat", 2, (NONE, False), (NONE, "unparsable")),
    ("The answer is C.", 2, (NONE, False), (2, "letter")),
    ("The correct option is (D)", 3, (NONE, False), (3, "letter")),
    ("The best answer is: E", 4, (NONE, False), (4, "letter")),
    ("Assistant: C", 2, (NONE, False), (2, "letter")),
    ("C\nThe dog is seen.", 2, (NONE, False), (2, "letter")),
    ("a dog", 2, (2, True), (2, "text")),
    ("A dog.", 2, (NONE, False), (2, "text")),
    ("A man walks", 0, (0, True), (0, "text")),
    ("I think a dog barks here", 3, (NONE, False), (3, "text")),
    ("It is nobody", 4, (NONE, False), (4, "text")),
    ("nobody or a dog", 4, (NONE, False), (NONE, "unparsable")),
    ("A man runs away", 0, (NONE, False), (NONE, "unparsable")),
    ("A or B", 0, (NONE, False), (NONE, "unparsable")),
    ("G", 0, (NONE, False), (NONE, "unparsable")),
    ("I am sorry, I cannot see that.", 0, (NONE, False), (NONE, "refusal")),
    ("The video does not show this", 0, (NONE, False), (NONE, "refusal")),
    ("", 0, (NONE, False), (NONE, "empty")),
    (" * ", 0, (NONE, False), (NONE, "empty")),
]


@pytest.mark.parametrize(("text", "right", "official", "lenient"), CASES)
def test_official_and_lenient_extractors(text, right, official, lenient) -> None:  # type: ignore[no-untyped-def]
    found = extract("official", text, OPTIONS, right)
    assert (found.choice, found.correct) == official
    choice, how = lenient
    found = extract("lenient", text, OPTIONS, right)
    assert (found.choice, found.method, found.correct) == (choice, how, choice == right)


@given(st.text(), st.integers(0, 4))
def test_extractors_accept_any_text_and_never_guess(text: str, right: int) -> None:
    found = extract("lenient", text, OPTIONS, right)
    assert found.correct == (found.choice == right)
    assert extract("lenient", text, OPTIONS, right) == found
    assert (found.choice is None) == (found.method not in ("letter", "text"))
    extract("official", text, OPTIONS, right)
