"""What a run says in sentences: the same in the terminal, in markdown and in the browser."""

from smolvideo.engines import told_format
from smolvideo.evals.scores import EvalReport, Score
from smolvideo.safe_text import clean_name


def headline(report: EvalReport) -> str:
    """``nano on cinepile: 61.5 % of 288 questions``, with the interval."""
    share = report.main.overall.share
    model, benchmark = report.info.model["name"], report.info.benchmark["name"]
    if share.value is None:
        return f"{clean_name(model)} on {benchmark}: nothing answered"
    return (
        f"{clean_name(model)} on {benchmark}: {percent(share.value)}{ends_of(report.main.overall)}"
    )


def particulars(report: EvalReport) -> list[str]:
    """What was measured, in the words of the options."""
    settings, model = report.info.settings, report.info.model
    scoring = settings["scoring"]
    reading = f", extractor {settings['extractor']}" if scoring == "generate" else ""
    sampling = settings["sampling"]
    geometry = settings["prompt_options"]["geometry"] or "official"
    layout = settings["prompt_options"]["layout"] or "the model's own"
    revision = model["revision"] or (model["weights"] or "")[:12]
    official = (settings["prompt"], settings["extractor"], scoring) == (
        "official",
        "official",
        "generate",
    )
    protocol = "CinePile's own protocol" if official else "not an official protocol"
    return [
        f"prompt {settings['prompt']}, scoring {scoring}{reading}: {protocol}",
        f"up to {sampling['max_frames']} frames, {sampling['strategy']}, geometry {geometry}, "
        f"layout {layout}, subtitles {settings['subtitles']}",
        f"{model['engine']} on {model['device']} in "
        f"{told_format(model['dtype'], model.get('quantise', 'none'))}, revision {revision}",
    ]


def remarks(report: EvalReport) -> list[str]:
    """Coverage, bounds, answers that name no option, and how to read the intervals."""
    score = report.main.overall
    lines = [
        f"coverage: {score.share.answered:,} of {score.total:,} questions, "
        f"{report.videos_seen:,} of {report.videos:,} videos"
    ]
    # Rows that were no questions are in no score: whoever reads one must know of them.
    lines += [clean_name(notice) for notice in report.info.notices]
    if score.bounds and score.coverage < 1:
        missing = ", ".join(
            f"{count:,} {_NO_ANSWER_WORDS[kind]}"
            for kind, count in score.counts.items()
            if kind in _NO_ANSWER_WORDS
        )
        lines.append(f"without an answer: {missing}")
        lines.append(
            f"if they were all wrong {percent(score.bounds.low)}, all right "
            f"{percent(score.bounds.high)}"
        )
    for kind, words in _NO_CHOICE_WORDS.items():
        if count := score.counts.get(kind):
            lines.append(f"{count:,} {words[count != 1]}: counted as wrong")
    for name, scores in report.conditions.items():
        if scores.same_choice is not None:
            lines.append(f"{name}: the same choice in {percent(scores.same_choice)} of the items")
    lines.append("intervals: 95 %, clustered by video; | marks chance")
    return lines


_NO_ANSWER_WORDS = {
    "missing": "with no video",
    "video": "with a broken video",
    "prompt": "that do not fit the context",
    "model": "at which the model failed",
}
_NO_CHOICE_WORDS = {
    "refusal": ("refusal", "refusals"),
    "unparsable": ("answer that names no option", "answers that name no option"),
    "empty": ("empty answer", "empty answers"),
}


def interval(score: Score) -> str:
    """``57.2 to 65.8``, in per cent; empty where there is none."""
    share = score.share
    if share.low is None or share.high is None:
        return ""
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def ends_of(score: Score) -> str:
    """The interval in brackets, after a blank."""
    ends = interval(score)
    return f" ({ends})" if ends else ""


def percent(share: float) -> str:
    """``61.5 %``"""
    return f"{100 * share:.1f} %"
