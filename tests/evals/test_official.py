"""Extraction rules of other tools, compared with the results of those tools on the same answers."""

import json

import pytest
from support.project import ROOT

from smolvideo.errors import UsageError
from smolvideo.evals.protocol import EXTRACTORS, extract, extractor_for
from smolvideo.evals.protocol.official_rules import cinepile_parts

HEAD, *ROWS = (
    json.loads(line)
    for line in (ROOT / "tests" / "golden" / "extractors.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
)
OPTIONS: list[str] = HEAD["options"]
NAMED = EXTRACTORS[2:]


@pytest.mark.parametrize("extractor", NAMED)
def test_every_rule_agrees_with_its_tool(extractor: str) -> None:
    """Values computed with lmms-eval 75571cfe and VLMEvalKit e8e78f05.

    Each row has the letters of the options under which the tool's scoring function counts the
    answer as right, for five options (four where the tool supports four). Where lmms-eval picks an
    option at random, the pick was forced to be none.
    """
    options = OPTIONS[:4] if extractor.endswith("videomme") else OPTIONS
    assert len(ROWS) >= 120
    for row in ROWS:
        text, theirs = row["text"], row[extractor]
        if extractor == "vlmevalkit:mvbench" and text in ("", ".", "("):
            # The tool counts any such answer as right; here an empty answer is wrong.
            assert theirs == "ABCDE"
            theirs = ""
        found = [extract(extractor, text, options, right) for right in range(len(options))]  # type: ignore[arg-type]
        ours = "".join("ABCDE"[right] for right, one in enumerate(found) if one.correct)
        assert ours == theirs, text
        if len(theirs) == 1:
            assert {one.choice for one in found} == {"ABCDE".index(theirs)}, text


def test_lenient_rule_on_the_same_answers() -> None:
    """Judged by hand: what a reader concludes without guessing."""
    for row in ROWS:
        choice = extract("lenient", row["text"], OPTIONS, 0).choice
        assert ("" if choice is None else "ABCDE"[choice]) == row["lenient"], row["text"]


def test_official_rule_is_that_of_the_benchmark() -> None:
    assert extractor_for("official", "cinepile") == "cinepile"
    assert extractor_for("official", "video-mme") == "lmms-eval:videomme"
    assert extractor_for("official", "mvbench") == "lmms-eval:mvbench"
    assert extractor_for("official", "egoschema") == "lmms-eval:egoschema"
    assert extractor_for("vlmevalkit:mvbench", "jsonl") == "vlmevalkit:mvbench"
    with pytest.raises(UsageError, match="`jsonl` has no official extractor") as refused:
        extractor_for("official", "jsonl")
    assert "vlmevalkit:videomme" in (refused.value.hint or "")


def test_cinepile_rule_takes_the_first_letter_of_a_word() -> None:
    assert cinepile_parts("Answer: Because he left") == ("B", "ecause he left")
    assert cinepile_parts("Answer: C\nbecause") == ("C", "because")
    assert cinepile_parts("no letter") == (None, "no letter")


@pytest.mark.parametrize("extractor", NAMED)
def test_answer_without_option_has_a_reason(extractor: str) -> None:
    for text, how in (("", "empty"), ("sorry", "refusal"), ("...", "unparsable")):
        found = extract(extractor, text, OPTIONS[:4], 0)  # type: ignore[arg-type]
        assert (found.choice, found.correct, found.method) == (None, False, how)


def test_letters_beyond_the_options_are_no_choice() -> None:
    for extractor in EXTRACTORS:
        found = extract(extractor, "E", OPTIONS[:3], 0)
        assert (found.choice, found.correct) == (None, False), extractor
