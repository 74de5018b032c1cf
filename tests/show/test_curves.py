"""SVG of training curves: well-formed, with lines at the right values."""

import xml.etree.ElementTree as ET
from typing import Any

from smolvideo.show.training import curves_svg

SVG = "{http://www.w3.org/2000/svg}"


def point(seconds: float, stage: str, loss: float, **scores: float) -> dict[str, Any]:
    return {"seconds": seconds, "stage": stage, "step": 1, "loss": loss, "scores": scores}


CURVE = [
    point(30, "see", 50.0),
    point(60, "see", 5.0, cells=0.5),
    point(90, "answer", 2.0, all=0.1, colour=0.2),
    point(120, "answer", 1.0, all=0.9, colour=1.0),
]


def test_every_question_type_has_a_line_and_a_label() -> None:
    root = ET.fromstring(curves_svg(CURVE, "nano <1>"))
    lines = root.findall(f"{SVG}polyline")
    words = [text.text for text in root.findall(f"{SVG}text")]
    assert len(lines) == 4  # cells, all, colour; the loss
    assert {"nano <1>", "see", "answer", "cells", "all", "colour", "minutes"} <= set(words)
    heights = [
        [float(pair.split(",")[1]) for pair in line.attrib["points"].split()] for line in lines
    ]
    assert all(later < earlier for earlier, later in heights[1:3]), "better is higher"
    assert heights[-1] == sorted(heights[-1]), "a falling loss falls"


def test_curve_of_one_point_is_drawn() -> None:
    empty, one = (ET.fromstring(curves_svg(curve, "nano")) for curve in ([], CURVE[:1]))
    for root, named in ((empty, set()), (one, {"see"})):
        words = {text.text for text in root.findall(f"{SVG}text")}
        assert {"nano", "minutes", "0%", "100%", "loss (logarithmic)"} <= words
        assert words & {"see", "read", "answer"} == named
        assert len(root.findall(f"{SVG}line[@class='grid']")) == 5
    assert empty.find(f"{SVG}polyline") is None
    (loss,) = one.findall(f"{SVG}polyline")
    # The only point is at the right edge and at the bottom of the loss curve.
    assert loss.attrib == {"class": "loss", "points": "660.0,424.0"}
