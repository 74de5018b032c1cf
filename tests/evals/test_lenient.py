"""The lenient extractor: wordings, markup and languages that it reads, and that it never
guesses.
"""

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.project import ROOT

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol import extract, lenient
from smolvideo.evals.protocol.lenient import MAX_READ, lenient_choice

GOLDEN = ROOT / "tests" / "golden"
HEAD, *ROWS = map(
    json.loads, (GOLDEN / "answer-wordings.jsonl").read_text(encoding="utf-8").splitlines()
)
CLAUSES = json.loads((GOLDEN / "answer-clauses.json").read_text(encoding="utf-8"))
OPTIONS: list[str] = HEAD["options"]


def test_golden_wordings() -> None:
    """Over a thousand answers, judged by hand; an empty ``wanted`` names no option."""
    wrong = []
    for row in ROWS:
        choice, _ = lenient_choice(row["text"], OPTIONS)
        if ("" if choice is None else "ABCD"[choice]) != row["wanted"]:
            wrong.append((row["text"], row["wanted"], choice))
    assert not wrong
    assert len(ROWS) > 1000


@pytest.mark.parametrize("about", CLAUSES, ids=lambda about: about["options"][0])
def test_golden_clauses(about: dict[str, Any]) -> None:
    """Sentences that name an option, and sentences that contain its text with another meaning."""
    options, wanted = about["options"], about["read"] | dict.fromkeys(about["unread"])
    read = {text: lenient_choice(text, options)[0] for text in wanted}
    found = {text: None if choice is None else LETTERS[choice] for text, choice in read.items()}
    assert found == wanted


PLAIN = [
    (about["options"], text, letter)
    for about in CLAUSES
    for text, letter in about["read"].items()
    if len(text) > 3 and text.isascii() and not set("{<\\\n") & set(text)
]
TAKEN_BACK = [
    " or maybe not.",
    " or something else.",
    "? No.",
    ". No, wait.",
    ". Actually, none of the options is correct.",
    ". But I disagree.",
    ". Just kidding.",
    ". I was wrong.",
    ", or is it?",
    ". Never mind",
    ". Ich habe mich geirrt.",
    "。开玩笑的。",
]


@given(st.sampled_from(PLAIN), st.sampled_from(TAKEN_BACK))
def test_retracted_answer_is_no_answer(plain: tuple[list[str], str, str], behind: str) -> None:
    options, text, _ = plain
    assert lenient_choice(text.rstrip(" .!") + behind, options)[0] is None


DRESSED = [
    "Sure! {}",
    "Answer: {}",
    "Based on the frames provided: {}",
    "Looking at the video.\n\n{}",
    "<think>It could be A or B.</think>\n{}",
    "<answer>{}</answer>",
    '"{}"',
    "{} I hope this helps!",
    "{}\n\nExplanation: the video shows it clearly.",
    "{} (Confidence: 90%)",
]


@given(st.sampled_from(PLAIN), st.sampled_from(DRESSED))
def test_markup_never_changes_the_answer(plain: tuple[list[str], str, str], dress: str) -> None:
    options, text, letter = plain
    choice = lenient_choice(dress.format(text), options)[0]
    assert choice is None or LETTERS[choice] == letter


@pytest.mark.parametrize("dress", DRESSED)
def test_markup_hides_few_answers(dress: str) -> None:
    read = [
        lenient_choice(dress.format(text), options)[0] is not None
        for options, text, _ in PLAIN[::9]
    ]
    assert sum(read) >= 0.9 * len(read)


def test_golden_clauses_have_many_of_both_kinds() -> None:
    assert sum(len(about["read"]) for about in CLAUSES) > 140
    assert sum(len(about["unread"]) for about in CLAUSES) > 140


@pytest.mark.parametrize(
    ("options", "text", "choice"),
    [
        (["C++", "C#"], "C++", 0),
        (["C++", "C#"], "c#", 1),
        (["C++", "Java"], "C#", None),
        (["C", "C++"], "C++", 1),
        (["+", "-"], "+", 0),
        (["+", "-"], "-", 1),
        (["1:30", "1.30"], "1:30", 0),
        (["1:30", "1.30"], "1.30.", 1),
        (["5%", "$5"], "$5", 1),
        (["5%", "$5"], "5", None),
        (["5", "6"], "It costs $5", None),
        (["5", "6"], "There are 5 of them", 0),
        (["5", "6"], "-5", None),
        (["15", "5"], "1.5", None),
        (["5", "50"], "50 %", None),
        (["42", "42!"], "42", 0),
        (["42", "42!"], "42!", 1),
        (["42", "42!"], "42.", 0),
        (["😀", "😢"], "😢", 1),
        (["It’s raining", "It’s snowing"], "It's raining", 0),
        (["It's raining", "It's snowing"], "It’s raining.", 0),
        (["Polish", "polish"], "polish", 1),
        (["Polish", "polish"], "POLISH", None),
        (["a dog", "the dog"], "dog", None),
        (["a dog", "the cat"], "The dog", 0),
        (["twice", "twice", "once"], "twice", None),
        (["twice", "twice", "once"], "B", 1),
        (["2⁵", "25"], "25", 1),
        (["25", "30"], "2⁵", None),
        (["B", "A"], "A", None),
        (["A", "B"], "A", 0),
        (["B", "A"], "The letter is A", None),
        (["Yes", "No"], "No, it is not.", 1),
        (["Yes", "No"], "Yes, there is no ball.", None),
        (["Yes", "No"], "(B) No", 1),
        (["Yes", "No"], "A) No", None),
        (["True", "False"], "The answer is false", 1),
        (["+", "-"], "The sign is +", 0),
        (["+", "-"], "The sign is not +", None),
        (["C++", "C#"], "The answer is C++.", 0),
        (["A+", "A-"], "A-", 1),
        (["A+", "B+"], "A", 0),
        (["❤️", "💙"], "❤", 0),
        (["😀", "😢"], "The emoji is 😢", 1),
        (["D", "C", "B", "A"], "B) C", 1),
        (["D", "C", "B", "A"], "B", None),
        (["C walks", "C eats"], "B. C eats", 1),
        (["C walks", "C eats"], "C eats", 1),
        (["red", "blue"], "not red but blue", 1),
        (["red", "blue"], "The red ball hits the blue one", None),
        (["rot", "blau"], "nicht rot, sondern blau", 1),
        (["红色", "蓝色"], "不是红色", None),
        (["빨강", "파랑"], "빨강이 아닙니다", None),
        (["Yes", "No"], "no", 1),
        (["Yes", "No"], "There is no ball", None),
        (["Team B wins", "Team A wins"], "I think Team B wins", 0),
        (["犬", "猫"], "これは猫です", 1),
        (["强壮的狗", "猫"], "不是猫", None),
        (["кот", "пёс"], "Это кот.", 0),
        (["the dog does not bark", "the dog barks"], "The dog does not bark.", 0),
    ],
)
def test_signs_and_spelling_distinguish_options(
    options: list[str], text: str, choice: int | None
) -> None:
    assert lenient_choice(text, options)[0] == choice


def test_truncated_option_text_is_read() -> None:
    options = ["a dog", "a dog barks", "a cat"]
    assert lenient_choice("B) a dog", options) == (1, "letter")
    assert lenient_choice("C) a dog", options) == (None, "unparsable")


CARS = ["a red car", "a blue car", "a green car", "a dog"]


@pytest.mark.parametrize(
    "text",
    [
        "B. Wrong!",
        "B. Not correct.",
        "B. This is incorrect.",
        "B - ruled out",
        "B: not shown in the video",
        "B: no evidence",
        "B. a blue car - not shown",
        "A. That's wrong.",
        "A is correct. No, it's wrong.",
        "There's no correct answer. A",
        "!B",
        "¬(B)",
        '{"answer": "B", "correct": false}',
        '{"B": 0}',
        "La mauvaise réponse est B",
        "La peor opción es B",
        "誤った選択肢はB",
        "틀린 답은 B",
        "The least likely answer is B",
        "Worst choice: B",
        "Which is wrong? B.",
        "The option to avoid is B",
        "I refuse to pick B",
        "Respond with a letter, e.g., (B)",
        "For example, the answer is B.",
        "If the car were red, the answer would be A.",
        "At first I thought the answer was B.",
        "Should I choose B?",
        "Previous answer: A",
    ],
)
def test_denied_or_hypothetical_answer_is_no_answer(text: str) -> None:
    assert lenient_choice(text, CARS)[0] is None


@pytest.mark.parametrize(
    "text",
    [
        "B. It is not moving.",
        "B. Not C.",
        "B. There is no dog.",
        "At first I thought A, but the answer is B.",
        "The worst choice is A. The answer is B.",
        "B, because, for example, it is blue.",
        '{"answer": "B", "correct": true}',
        '{"B": 1}',
    ],
)
def test_denial_of_something_else_keeps_the_answer(text: str) -> None:
    assert lenient_choice(text, CARS)[0] == 1


@pytest.mark.parametrize(
    "text",
    [
        "A, E",
        "B, E",
        "B, maybe E",
        "B but also C",
        "The answer is B, which is a dog",
        "a dog\nB",
        "a dog, so B",
        "B: red",
        "A: blue",
    ],
)
def test_letter_with_another_answer_is_no_answer(text: str) -> None:
    assert lenient_choice(text, CARS)[0] is None


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("No, I cannot see the video.", None),
        ("No, I don't know", None),
        ("No. 1", None),
        ("Yes. No.", None),
        ("Yes, I can help you with that. Please share the video.", None),
        ("Yes, B", None),
        ("Answer: Yes, B", None),
        ("No. A", None),
        ("Answer: No. A", None),
        ("Yes, A", 0),
        ("Answer: No, B", 1),
        ("Answer: Yes", 0),
        ("No, the man cannot swim.", 1),
        ("Yes, I can see a dog.", 0),
    ],
)
def test_yes_or_no_as_filler_is_no_answer(text: str, choice: int | None) -> None:
    assert lenient_choice(text, ["yes", "no"])[0] == choice


LETTER = st.sampled_from("ABCD")
DRESS = st.sampled_from(["{}", "({})", "[{}]", "{}.", "{})", "**{}**", '"{}"', "option {}", "{}:"])
BEFORE = st.sampled_from(
    [
        "",
        "Answer: ",
        "The answer is ",
        "I think ",
        "It is ",
        "Both ",
        "Either ",
        "Maybe ",
        "So ",
        "答案是",
        "正解は",
        "정답은 ",
        "Ответ: ",
        "Die Antwort ist ",
        "La réponse est ",
        "Correct: ",
    ]
)
BETWEEN = st.sampled_from(
    [
        ", ",
        " or ",
        " and ",
        "/",
        "; ",
        "\n",
        " & ",
        " - ",
        " | ",
        " vs ",
        ", or ",
        "? ",
        "! ",
        " und ",
        " oder ",
        " et ",
        " ou ",
        " y ",
        " e ",
        " и ",
        " или ",
        "、",
        "或",
        " or maybe ",
    ]
)
BEHIND = st.sampled_from(["", ".", "?", " because it is red", " are correct", " is possible"])


@settings(max_examples=300)
@given(BEFORE, DRESS, LETTER, BETWEEN, DRESS, LETTER, BEHIND)
def test_two_letters_are_no_answer(  # type: ignore[no-untyped-def]
    before, dress, one, between, other_dress, other, behind
) -> None:
    if one == other:
        return
    text = before + dress.format(one) + between + other_dress.format(other) + behind
    assert lenient_choice(text, OPTIONS)[0] is None, text


@given(st.sampled_from([row["text"] for row in ROWS if row["wanted"]]))
def test_additional_letter_voids_the_answer(text: str) -> None:
    longer = f"{text}\nOr D"
    if "{" not in text and "<" not in text and "\\" not in text and "D" not in text:
        assert lenient_choice(longer, OPTIONS)[0] is None, longer


TEXTS = [
    "the blue cube",
    "A red ball.",
    "It is a green star",
    "I see that the dog barks",
    "**a red ball**",
]


@given(st.sampled_from(TEXTS), st.sampled_from(list(permutations(range(4)))))
def test_option_texts_are_read_in_any_order_of_options(text: str, order: tuple[int, ...]) -> None:
    choice, how = lenient_choice(text, OPTIONS)
    shown = [OPTIONS[place] for place in order]
    assert choice is not None
    assert lenient_choice(text, shown) == (order.index(choice), how)


@given(st.sampled_from([row["text"] for row in ROWS]), st.integers(0, 3))
def test_extraction_is_independent_of_the_right_answer(text: str, right: int) -> None:
    found = extract("lenient", text, OPTIONS, right)
    assert found.choice == extract("lenient", text, OPTIONS, 0).choice
    assert found.correct == (found.choice == right)
    assert (found.choice is None) == (found.method not in ("letter", "text"))


def test_very_long_answers_are_only_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text longer than any answer is compared with the options and not searched."""
    searched: list[int] = []

    def counting(text: str) -> str:
        searched.append(len(text))
        return text

    monkeypatch.setattr(lenient, "final_part", counting)
    for unit in ("A ", "(a) ", "{", "\\boxed{", "<answer>", "answer is ", "a red ball "):
        assert lenient_choice(unit * (1_000_000 // len(unit)), OPTIONS)[0] is None
    assert searched == []
    lenient_choice("A", OPTIONS)
    assert searched == [1]
    long_option = "x" * 2 * MAX_READ
    assert lenient_choice(long_option, [long_option, "y"])[0] == 0


@pytest.mark.parametrize("unit", ["A ", "(a) ", "b, ", "a b ", "a red ball ", "not B, ", "Ⓐ"])
def test_hundreds_of_option_letters_are_no_answer(unit: str) -> None:
    text = (unit * MAX_READ)[:MAX_READ]
    assert lenient_choice(text, OPTIONS) == (None, "unparsable")
