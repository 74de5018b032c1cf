"""Answers about files whose content has changed since."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from smolvideo.errors import RecordError, SourceError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.loader import ClipLoader
from smolvideo.evals.run_folder import (
    EvalAnswer,
    EvalVideo,
    Key,
    RunFolder,
    clip_id,
    group_by_clip,
)
from smolvideo.evals.videos import MissingVideo
from smolvideo.files import file_state
from smolvideo.sanitize import display_name, display_path


@dataclass
class OutdatedAnswers:
    """Stale answers' keys; ``notices`` maps clip ids to the reasons, for their records."""

    keys: set[Key] = field(default_factory=set)
    notices: dict[str, tuple[str, ...]] = field(default_factory=dict)


def outdated_answers(
    run: RunFolder,
    known: Mapping[Key, EvalAnswer],
    looker: ClipLoader,
    on_note: Callable[[str], None],
) -> OutdatedAnswers:
    """Return the ``known`` answers whose video or subtitles have other content now.

    A video is hashed only if its file state differs from the one recorded with its hash. Answers
    about files that no longer exist stay valid; ``on_note`` is called for both cases.
    """
    videos = run.videos()
    outdated = OutdatedAnswers()
    unseen: list[str] = []
    silent: list[str] = []
    with run.video_writer() as writer:
        for items in group_by_clip(run.items):
            # The clip's answers, and the state of its files now.
            answers = _answers_to(items, known, looker)
            before = videos.get(clip_id(items[0]))
            if not answers or before is None or before.sha256 is None:
                continue
            now = _current_state(items[0], before, looker)
            if now is None:
                unseen.append(items[0].video)
                continue
            # Answers about other content.
            other_video = [one for one in answers if (one.sha256 or before.sha256) != now.sha256]
            other_subtitles = _with_other_subtitles(items, answers, looker, silent)
            notices = [
                *_notice_for(f"the video `{display_name(items[0].video)}` has", other_video),
                *(
                    notice
                    for path, of_path in other_subtitles.items()
                    for notice in _notice_for(f"the subtitles {display_path(path)} have", of_path)
                ),
            ]
            changed = [*other_video, *(one for of in other_subtitles.values() for one in of)]
            if changed:
                outdated.keys |= {one.key for one in changed}
                outdated.notices[before.look] = tuple(notices)
                for notice in notices:
                    on_note(notice)
            elif now != before:
                writer.write(now)  # saves the next run hashing the file again
    for noun, gone in (("video", unseen), ("subtitle file", silent)):
        if gone:
            names = ", ".join(f"`{display_name(name)}`" for name in gone[:3])
            more = ", …" if len(gone) > 3 else ""
            on_note(
                f"{_counted(len(gone), noun)} no longer found as answered about, so the answers "
                f"stand as they are: {names}{more}"
            )
    return outdated


def _answers_to(
    items: Sequence[EvalItem], known: Mapping[Key, EvalAnswer], looker: ClipLoader
) -> list[EvalAnswer]:
    keys = [(condition, item.id) for item in items for condition in looker.settings.conditions]
    return [known[key] for key in keys if key in known and not known[key].failed]


def _notice_for(what: str, answers: Sequence[EvalAnswer]) -> Iterable[str]:
    if answers:
        count = _counted(len(answers), "answer")
        yield f"{what} another content than when it was asked about: {count} asked anew"


def _with_other_subtitles(
    items: Sequence[EvalItem],
    answers: Sequence[EvalAnswer],
    looker: ClipLoader,
    silent: list[str],
) -> dict[Path, list[EvalAnswer]]:
    """Return the answers whose subtitle file has other content now, by that file.

    Videos whose file no longer exists are added to ``silent``. Answers from before subtitle hashes
    were recorded stay valid, unless they had no subtitles.
    """
    found: dict[Path, list[EvalAnswer]] = {}
    for item in items:
        of_item = [answer for answer in answers if answer.id == item.id]
        path = _subtitles_now(item, looker)
        if path is None:
            if any(answer.subtitles_sha256 for answer in of_item):
                silent.append(item.video)
            continue
        now = looker.content_hash(path)
        for answer in of_item:
            is_known = answer.subtitles_sha256 is not None or answer.subtitles is None
            if is_known and answer.subtitles_sha256 != now:
                found.setdefault(path, []).append(answer)
    return found


def _subtitles_now(item: EvalItem, looker: ClipLoader) -> Path | None:
    try:
        return looker.subtitle_file(item, looker.finder.find(item).source.path)
    except (MissingVideo, RecordError, SourceError):  # the evaluation reports it
        return None


def _current_state(item: EvalItem, before: EvalVideo, looker: ClipLoader) -> EvalVideo | None:
    """``before`` with the file's current state and hash; None without a file."""
    try:
        path = looker.finder.path(item)
        if path is None:
            return None
        source = looker.finder.find(item).source
        stamp = file_state(source.path)
        if stamp and stamp == before.stamp:
            return before
        return replace(before, stamp=stamp, sha256=looker.content_hash(source.path))
    except (MissingVideo, RecordError):
        return None
    except SourceError:  # the file exists but is no longer a video
        return replace(before, sha256=None)


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"
