"""Log-probabilities of the tokens of an answer, in both engines."""

import math

import pytest
from support.project import ROOT

from smolvideo.engines import ENGINES, LogprobRecorder, load_engine
from smolvideo.pipeline import prepare


@pytest.mark.parametrize("name", ENGINES)
def test_recorder_has_the_probability_of_each_token_and_its_alternatives(name: str) -> None:
    engine = load_engine("nano", engine=name, device="cpu")
    prepared = prepare(engine.checkpoint, str(ROOT / "samples/circle_right.mp4"), "What moves?")
    recorder = LogprobRecorder(engine.checkpoint, num_top=3)
    answer = engine.stream(prepared.prompt, on_token=recorder).result()
    assert b"".join(token.content for token in recorder.tokens).decode().strip() == answer.text
    for token in recorder.tokens:
        assert len(token.top) == 3
        assert token.top[0].content == token.content, "greedy takes the most likely"
        assert token.logprob == token.top[0].logprob >= token.top[1].logprob
        assert sum(math.exp(one.logprob) for one in token.top) <= 1 + 1e-6
    total = sum(token.logprob for token in recorder.tokens)
    scored = engine.score(prepared.prompt, [answer.text], with_end=False)
    assert total == pytest.approx(scored[0], abs=1e-3)
