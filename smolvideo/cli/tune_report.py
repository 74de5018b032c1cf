"""The curves of a tuning run, drawn from its file of points."""

import json
from pathlib import Path

from smolvideo.records import write_text_atomic
from smolvideo.show.training import curves_svg


def draw_curves(out: Path, name: str) -> None:
    """Write curves.svg: loss and exact match over the steps. Raises RecordError."""
    points = []
    for line in (out / "curve.jsonl").read_text("utf-8").splitlines():
        point = json.loads(line)
        shares = {
            role: kinds["all"]["exact"]
            for role, kinds in point.get("scores", {}).items()
            if "all" in kinds
        }
        if "loss" in point:
            points.append(
                {"seconds": point["step"], "stage": "", "loss": point["loss"], "scores": shares}
            )
    svg = curves_svg(points, f"{name}: exact answers over the steps", unit="steps")
    write_text_atomic(out / "curves.svg", svg, overwrite=True)
