"""Sixel encoding: a decoder of the test draws the given image."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from smolvideo.show.terminal_images import encode_sixel


def drawn(text: str) -> NDArray[np.uint8]:
    """Decode a sixel control string to RGB pixels ``[H, W, 3]``; every pixel must be set."""
    whole = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)([!-~]*)\x1b\\', text)
    assert whole
    width, height = int(whole[1]), int(whole[2])
    pixels = np.full((height, width, 3), -1, np.int16)
    registers: dict[int, tuple[int, ...]] = {}
    colour, left, top = 0, 0, 0
    pieces = r"#(\d+)((?:;\d+){4})?|!(\d+)([?-~])|([?-~])|([$-])"
    for piece in re.finditer(pieces, whole[3]):
        number, setting, times, run, single, move = piece.groups()
        if number:
            colour = int(number)
            if setting:
                _, kind, *parts = setting.split(";")
                assert kind == "2"
                registers[colour] = tuple(round(int(part) * 2.55) for part in parts)
        elif move:
            left = 0
            top += 6 * (move == "-")
        else:
            end = left + int(times or 1)
            for row in range(6):
                if (ord(run or single) - 63) >> row & 1:
                    pixels[top + row, left:end] = registers[colour]
            left = end
    assert "".join(piece[0] for piece in re.finditer(pieces, whole[3])) == whole[3]
    assert pixels.min() >= 0
    return pixels.astype(np.uint8)


@given(
    width=st.integers(1, 20),
    height=st.integers(1, 20),
    colours=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_flat_colours_round_trip(
    width: int, height: int, colours: list[tuple[int, int, int]], seed: int
) -> None:
    places = np.random.default_rng(seed).integers(0, len(colours), (height, width))
    image = np.array(colours, np.uint8)[places]
    # The octree may merge similar colours, and sixel colours are whole per cent.
    alike = np.abs(drawn(encode_sixel(Image.fromarray(image))).astype(int) - image)
    assert alike.max() <= 20


def test_gradient_stays_smooth() -> None:
    ramp = np.linspace(0, 255, 180).astype(np.uint8)
    image = np.stack([np.broadcast_to(ramp, (160, 180))] * 3, axis=-1)
    assert np.abs(drawn(encode_sixel(Image.fromarray(image))).astype(int) - image).max() <= 12


@pytest.mark.parametrize(("width", "says"), [(3, "~~~"), (4, "!4~"), (300, "!300~")])
def test_runs_are_run_length_encoded(width: int, says: str) -> None:
    text = encode_sixel(Image.new("RGB", (width, 6), (255, 0, 0)))
    assert text == f'\x1bP0;1q"1;1;{width};6#0;2;100;0;0#0{says}\x1b\\'
