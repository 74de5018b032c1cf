"""What a tuning run shows and writes: notices, progress, curves, model card and result."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolvideo.records import json_line, write_text_atomic
from smolvideo.show.console import Output
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.training import curves_svg
from smolvideo.show.tuning import TuningProgress, show_tune_result

if TYPE_CHECKING:
    from smolvideo.tune.run import TuneRequest, TuneResult


class NoticeLog:
    """Callback for notices: on the screen at once, and in ``sentences`` for card and result."""

    def __init__(self, screen: Output) -> None:
        self.screen = screen
        self.sentences: list[str] = []

    def __call__(self, sentence: str) -> None:
        self.sentences.append(sentence)
        self.screen.notice(sentence)


def tune_with_progress(request: "TuneRequest", notices: NoticeLog) -> "TuneResult":
    """Run ``tune`` with its progress on the screen."""
    from smolvideo.tune.run import tune

    screen = notices.screen
    try:
        with StageProgress(screen) as stages, TuningProgress(screen) as progress:
            return tune(
                request, on_progress=stages.on_progress, on_step=progress.show, on_note=notices
            )
    except KeyboardInterrupt:
        screen.notice(f"the run is in `{request.out}`: the same command resumes it")
        raise


def report_result(
    request: "TuneRequest",
    result: "TuneResult",
    notices: NoticeLog,
    *,
    exam: Any = None,
    merges: bool,
    as_json: bool,
) -> None:
    """Write model card, curves and result.json, merge if asked to, and show the result.

    ``exam`` are the results before and after, if there was one. Raises RecordError.
    """
    from smolvideo.tune.card import NOT_HELD_OUT, losses, model_card, score_rows
    from smolvideo.tune.run import merge, result_facts

    out, screen = request.out, notices.screen
    # Everything that is about the run, then its data for programs.
    card = model_card(result, exam, notices.sentences)
    write_text_atomic(out / "README.md", card, overwrite=True)
    draw_curves(out, request.checkpoint.name)
    facts = {**result_facts(result), "exam": exam, "notices": notices.sentences}
    del facts["lines"]
    write_text_atomic(out / "result.json", json_line(facts) + "\n", overwrite=True)
    show_tune_result(screen, result, score_rows(result), exam)
    if losses(result) is None:
        screen.notice(NOT_HELD_OUT)
    paths = [out / "best", *([merge(request)] if merges else [])]
    if as_json:
        screen.write(json_line(facts) + "\n")
    else:
        screen.write_paths(paths)


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
