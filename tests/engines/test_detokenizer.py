"""Detokenizer: whole characters, no special tokens, no outer whitespace, stop strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tinymodels import byte_tokenizer
from tokenizers import Tokenizer

from smolvideo.engines.answer_text import OVERLAP, WINDOW, StopStringBuffer, StreamingDetokenizer

TOKENIZER = byte_tokenizer()


def ids_of(text: str, tokenizer: Tokenizer = TOKENIZER) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def pieces_of(token_ids: list[int], tokenizer: Tokenizer = TOKENIZER) -> list[str]:
    token_text = StreamingDetokenizer(tokenizer)
    return [token_text.push(token_id) for token_id in token_ids]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3 * WINDOW))
def test_streamed_pieces_join_to_the_text(text: str) -> None:
    # U+FFFD in the text looks like a partial character: it is held until the next one, or dropped.
    assert "".join(pieces_of(ids_of(text))) == text.rstrip("\ufffd")


def test_character_is_emitted_with_its_last_byte() -> None:
    pieces = pieces_of(ids_of("a€🎬"))
    assert pieces == ["a", "", "", "€", "", "", "", "🎬"]


@given(st.lists(st.integers(0, 255), max_size=200))
def test_streamed_bytes_equal_decoding_at_once(token_ids: list[int]) -> None:
    at_once = TOKENIZER.decode(token_ids)
    streamed = "".join(pieces_of(token_ids))
    assert at_once.startswith(streamed)
    assert set(at_once[len(streamed) :]) <= {"\ufffd"}


def test_decoding_is_linear_in_the_answer_length() -> None:
    decoded: list[int] = []

    class Counting:
        def get_added_tokens_decoder(self) -> dict[int, object]:
            return {}

        def decode(self, token_ids: list[int], skip_special_tokens: bool) -> str:
            decoded.append(len(token_ids))
            return str(TOKENIZER.decode(token_ids, skip_special_tokens=skip_special_tokens))

    text = "x" * 10 * WINDOW
    token_text = StreamingDetokenizer(Counting())  # type: ignore[arg-type]
    assert "".join(token_text.push(token_id) for token_id in ids_of(text)) == text
    assert max(decoded) <= WINDOW + 1
    assert decoded.count(OVERLAP) > 1


def test_special_tokens_are_dropped() -> None:
    token_ids = [
        *ids_of("a"),
        *(
            TOKENIZER.token_to_id(name)
            for name in ("<image>", "<|im_start|>", "<end_of_utterance>")
        ),
        *ids_of("b"),
    ]
    assert pieces_of(token_ids) == ["a", "", "", "", "b"]


def test_published_vocabulary(processor_files) -> None:  # type: ignore[no-untyped-def]
    file = processor_files / "SmolVLM2-256M-Video-Instruct" / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    text = " A dog 🐶 läuft über die 草地, then  stops.\n\n1) naïve"
    assert "".join(pieces_of(ids_of(text, tokenizer), tokenizer)) == text


def streamed(pieces: list[str], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    answer = StopStringBuffer(stop)
    given = [answer.push(piece) for piece in pieces]
    return [piece for piece in [*given, answer.finish()] if piece], answer.stopped


def test_outer_whitespace_is_dropped_and_inner_whitespace_is_held_back() -> None:
    assert streamed([" ", " A", " ", "\n", "b", " ", "\n"]) == (["A", " \nb"], False)


@pytest.mark.parametrize(
    ("pieces", "stop", "text", "stopped"),
    [
        (["one STOP two"], ("STOP",), "one", True),
        (["one S", "T", "OP", " two"], ("STOP",), "one", True),
        (["one S", "T", "ART"], ("STOP",), "one START", False),
        (["one ST"], ("STOP",), "one ST", False),
        (["\n", "first\n", "second"], ("\n",), "first", True),
        (["aab", "aac"], ("aac", "zz"), "aab", True),
        (["xaaab"], ("aab",), "xa", True),
        (["STOP"], ("STOP",), "", True),
        (["a B", " C"], ("C", "B"), "a", True),
    ],
)
def test_stop_strings_cut_the_text(
    pieces: list[str], stop: tuple[str, ...], text: str, stopped: bool
) -> None:
    given, did_stop = streamed(pieces, stop)
    assert ("".join(given), did_stop) == (text, stopped)


@given(
    st.lists(st.text("abc \n", max_size=5), max_size=12),
    st.lists(st.text("abc ", min_size=1, max_size=4), max_size=3),
)
def test_stop_string_is_found_across_pieces(pieces: list[str], stop: list[str]) -> None:
    text = "".join(streamed(pieces, tuple(stop))[0])
    assert text == "".join(streamed(list("".join(pieces)), tuple(stop))[0])
    assert text == "".join(streamed(["".join(pieces)], tuple(stop))[0])
    assert text == text.strip()
    assert "".join(pieces).strip().startswith(text)
