"""Probabilities of choices are those of the texts that begin with them."""

import math
from collections.abc import Sequence

import pytest
from support import tinymodels
from support.project import ROOT

import smolvideo
from smolvideo.engines import Engine, load_engine
from smolvideo.engines.choices import check_choices, choice_log_probabilities
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.prompt import Message, Prompt, answer_ids, pack_prompt

CIRCLE = ROOT / "samples" / "circle_right.mp4"


@pytest.fixture(scope="module", params=["native", "transformers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("choices") / "tiny")
    return load_engine(str(folder), engine=request.param, device="cpu")


def ask(checkpoint: Checkpoint, question: str) -> Prompt:
    return pack_prompt([Message("user", (question,))], checkpoint)


class TableOfProbabilities:
    """Scores texts by a table."""

    def __init__(self, table: dict[str, float]) -> None:
        self.table = table

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        assert not with_end
        return [math.log(self.table.get(answer, 1e-9)) for answer in answers]


def test_choice_is_the_sum_of_its_spellings(engine: Engine) -> None:
    prompt = ask(engine.checkpoint, "Is it red?")
    table = TableOfProbabilities({"yes": 0.2, "Yes": 0.3, "no": 0.05, "No": 0.15})
    found = choice_log_probabilities(table, engine.checkpoint, prompt, ["yes", "No"])
    assert [math.exp(one) for one in found] == pytest.approx([0.5, 0.2])


def test_choice_that_another_begins_with_is_without_it(engine: Engine) -> None:
    checkpoint = engine.checkpoint
    prompt = ask(checkpoint, "How many?")
    short, long = (answer_ids(prompt, text, checkpoint) for text in ("1", "1 0"))
    assert long[: len(short)] == short
    table = TableOfProbabilities({"1": 0.5, "1 0": 0.3, "1 0 0": 0.1, "2": 0.25})
    found = choice_log_probabilities(table, checkpoint, prompt, ["1", "1 0", "1 0 0", "2"])
    assert [math.exp(one) for one in found] == pytest.approx([0.2, 0.2, 0.1, 0.25])


def test_probabilities_equal_those_of_the_engine(engine: Engine) -> None:
    prompt = ask(engine.checkpoint, "Is it red?")
    found = choice_log_probabilities(engine, engine.checkpoint, prompt, ["YES", "no"])
    spellings = ["YES", "yES", "no", "No"]
    alone = [math.exp(one) for one in engine.score(prompt, spellings, with_end=False)]
    assert [math.exp(one) for one in found] == pytest.approx(
        [alone[0] + alone[1], alone[2] + alone[3]], rel=1e-4
    )


def test_choices_without_any_probability_are_an_error(engine: Engine) -> None:
    table = TableOfProbabilities({"a": 5e-324, "A": 5e-324, "b": 5e-324, "B": 5e-324})
    table.score = lambda *_, **__: [-1e5] * 4  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="probability 0"):
        choice_log_probabilities(table, engine.checkpoint, ask(engine.checkpoint, "?"), ["a", "b"])


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["yes"], "2 to 100"),
        ([], "2 to 100"),
        (["a"] * 101, "2 to 100"),
        (["yes", " "], "empty"),
        (["yes", "Yes "], "not all different"),
        ("yes,no", "texts in a list"),
        ([1, 2], "texts in a list"),
    ],
)
def test_choices_that_cannot_be_compared_are_refused(choices: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_choices(choices)


def test_python_gets_an_answer_with_its_probabilities(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path))
    with smolvideo.open("nano", CIRCLE) as video:
        answer = video.choose("Is there a purple circle?", ["no", "yes"])
        again = video.choose("Is there a square?", ["no", "yes"])
        rated = video.choose("How many circles are there?", ["1", "2", "3"])
        with pytest.raises(PromptError):
            video.choose(" ", ["no", "yes"])
    assert (answer.text, again.text, answer.stop_reason) == ("yes", "no", "choice")
    assert answer.choices is not None
    assert sum(answer.choices.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert answer.choices.probabilities["yes"] > 0.9
    assert answer.choices.mass > 0.9
    assert answer.choices.rating is None
    assert answer.question == "Is there a purple circle?"
    assert answer.usage.answer_tokens == 0
    assert answer.to_dict()["choices"]["probabilities"] == dict(answer.choices.probabilities)
    assert rated.choices is not None
    assert rated.choices.rating == pytest.approx(1, abs=0.2)


def test_choices_that_the_model_would_not_say_have_a_notice(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path))
    with smolvideo.open("nano", CIRCLE) as video:
        answer = video.choose("What moves?", ["yes", "no"])
    assert any("is one of the choices with 0.0% only" in notice for notice in answer.notices)
