"""Sentences of a report, the same in the terminal, in Markdown and in HTML."""

from collections.abc import Mapping
from typing import Any

from smolvideo.calibration import Reliability
from smolvideo.engines import format_dtype
from smolvideo.evals.comparison import Comparison
from smolvideo.evals.power import POWER, detectable_difference, questions_needed
from smolvideo.evals.scores import EvalReport, MeanOfGroups, Score
from smolvideo.evals.statistics import MIN_EFFECTIVE_VIDEOS, Accuracy, NoInterval, PairedComparison
from smolvideo.sanitize import display_name, escape_controls


def headline(report: EvalReport) -> str:
    """``nano on cinepile: 61.5 %``, with the interval in brackets."""
    share = report.main.overall.share
    model, benchmark = report.info.model["name"], report.info.benchmark["name"]
    about = f"{display_name(model)} on {display_name(benchmark)}"
    if share.value is None:
        unscored = report.unlabelled and not report.main.overall.total
        return f"{about}: {'no answer is public' if unscored else 'nothing answered'}"
    return f"{about}: {percent(share.value)}{interval_suffix(report.main.overall)}"


def settings_lines(report: EvalReport) -> list[str]:
    """Describe the setting in the names of the options."""
    settings, model = report.info.settings, report.info.model
    scoring = settings["scoring"]
    reading = f", extractor {settings['extractor']}" if scoring == "generate" else ""
    sampling = settings["sampling"]
    geometry = settings["prompt_options"]["geometry"] or "official"
    layout = settings["prompt_options"]["layout"] or "the model's own"
    revision = model["revision"] or (model["weights"] or "")[:12]
    protocol = "CinePile's own protocol" if _official(settings) else "not an official protocol"
    if model.get("adapter"):
        revision += f", adapter {model['adapter'][:12]}"
    number_format = format_dtype(
        model["dtype"], model.get("quantize", "none"), model.get("arithmetic")
    )
    lines = [
        f"prompt {settings['prompt']}, scoring {scoring}{reading}: {protocol}",
        f"up to {sampling['max_frames']} frames, {sampling['strategy']}, geometry {geometry}, "
        f"layout {layout}, subtitles {settings['subtitles']}",
        f"{model['engine']} on {model['device']} in {number_format}, revision {revision}",
    ]
    return [escape_controls(line) for line in lines]


def _official(settings: Mapping[str, Any]) -> bool:
    """Whether prompt, extractor and scoring are the ones of CinePile's authors.

    Older runs have the extractor name ``official`` instead of the rule's own name.
    """
    return settings["extractor"] in ("cinepile", "official") and (
        (settings["prompt"], settings["scoring"]) == ("official", "generate")
    )


def caveats(report: EvalReport) -> list[str]:
    """Coverage, bounds, answers without a choice, and how to read the intervals."""
    score = report.main.overall
    lines = [
        f"coverage: {score.share.answered:,} of {score.total:,} questions, "
        f"{report.videos_seen:,} of {report.videos:,} videos"
    ]
    if report.unlabelled:
        lines.append(
            f"without a public answer, and so in no score: {report.unlabelled:,} more questions, "
            f"{report.unlabelled_answered:,} of them answered"
        )
    # Invalid rows are in no score: readers of a score must know about them.
    lines += [display_name(notice) for notice in report.notices]
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
        if scores.mean_of_groups is not None:
            lines.append(f"{display_name(name)}: {mean_of_groups_text(scores.mean_of_groups)}")
        if scores.same_choice is not None:
            same = f"the same choice in {percent(scores.same_choice)} of the items"
            lines.append(f"{display_name(name)}: {same}")
        if scores.reliability is not None:
            lines.append(f"{display_name(name)}: {reliability_title(scores.reliability)}")
    lines.append(
        f"intervals: 95 %, clustered by video ({counted_videos(score.share)}); | marks chance"
    )
    return lines


def mean_of_groups_text(mean: MeanOfGroups) -> str:
    """``mean over 20 groups by task, each with the same weight: 51.2 %``"""
    of = "" if mean.answered == mean.groups else f" of {mean.groups:,}"
    return (
        f"mean over {mean.answered:,}{of} groups by {display_name(mean.field)}, each with the same "
        f"weight: {percent(mean.accuracy)}"
    )


def reliability_title(found: Reliability) -> str:
    """``ECE 0.031: mean difference of confidence and accuracy, 219 answers``"""
    return (
        f"ECE {found.ece:.3f}: mean difference of confidence and accuracy, {found.count:,} answers"
    )


def counted_videos(counted: Accuracy | PairedComparison) -> str:
    """``20 videos``, or ``20 videos that weigh like 4.4 of one size`` if their sizes differ."""
    words = f"{counted.videos:,} {'video' if counted.videos == 1 else 'videos'}"
    effective = effective_videos(counted)
    return (
        words
        if effective == f"{counted.videos}"
        else f"{words} that weigh like {effective} of one size"
    )


def effective_videos(counted: Accuracy | PairedComparison) -> str:
    """The effective number of videos, ``4.4`` or ``20``; ``-`` if nothing was answered."""
    effective = counted.effective_videos
    return "-" if effective is None else f"{effective:.1f}".removesuffix(".0")


def comparison_remarks(comparison: Comparison) -> list[str]:
    """McNemar's test, a legend of the columns, and why an interval is missing."""
    overall = comparison.overall
    lines = [
        f"McNemar's exact test, questions taken for independent: p {p_value(overall.mcnemar_p)}",
        f"the first less the second, 95 % and p, clustered by video ({counted_videos(overall)})",
        f"only the first right: {overall.only_first:,}; only the second: {overall.only_second:,}",
    ]
    lines += _power_lines(overall)
    if overall.no_interval is not None:
        lines.append(_why_no_interval(overall, overall.no_interval))
    elif any(pair.no_interval for group in comparison.groups.values() for pair in group.values()):
        lines.append(
            "groups without an interval: no difference, the same in every video, or fewer than "
            f"{MIN_EFFECTIVE_VIDEOS} videos of one size"
        )
    if comparison.left_out:
        lines.append(f"{comparison.left_out:,} questions that only one run answered are left out")
    return lines


def _power_lines(pair: PairedComparison) -> list[str]:
    """What these questions can show, and how many the observed difference needs."""
    shown, needed = detectable_difference(pair), questions_needed(pair)
    lines = []
    if shown is not None:
        lines.append(
            f"a difference of {100 * shown:.1f} points is found by {pair.questions:,} such "
            f"questions in {POWER:.0%} of cases"
        )
    if needed is not None:
        lines.append(
            f"the observed difference, {100 * abs(pair.difference):.1f} points, needs about "
            f"{needed:,} questions for that, with as many about each video"
        )
    return lines


def _why_no_interval(pair: PairedComparison, reason: NoInterval) -> str:
    match reason:
        case "no difference":
            return "both are right on the same questions: no difference, and so no interval"
        case "same in every video":
            why = "the difference is the same in every video"
        case "too few videos":
            weight = f"they weigh like {effective_videos(pair)} of one size, and "
            needed = f"{weight * (pair.effective_videos != pair.videos)}{MIN_EFFECTIVE_VIDEOS}"
            why = f"too few videos for more ({needed} are needed)"
    # McNemar's test takes questions as independent: valid if each has its own video.
    shared = ", which is too small where questions share a video"
    return f"{why}: no interval, and no p but McNemar's{shared * (pair.questions > pair.videos)}"


def p_value(value: float) -> str:
    """Format a p-value: ``0.034``, or ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


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
    """``57.2 to 65.8``, in per cent; empty without an interval."""
    share = score.share
    if share.low is None or share.high is None:
        return ""
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def interval_suffix(score: Score) -> str:
    """The interval in brackets after a space; empty without an interval."""
    ends = interval(score)
    return f" ({ends})" if ends else ""


def percent(share: float) -> str:
    """``61.5 %``"""
    return f"{100 * share:.1f} %"
