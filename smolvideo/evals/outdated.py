"""Answers of an earlier run whose video has another content now."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from smolvideo.content import file_state
from smolvideo.errors import RecordError, SourceError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.looking import Looker
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, Key, RunFolder, look_id, looks
from smolvideo.evals.videos import MissingVideo
from smolvideo.safe_text import clean_name


def outdated_answers(
    run: RunFolder,
    known: Mapping[Key, EvalAnswer],
    looker: Looker,
    on_note: Callable[[str], None],
) -> set[Key]:
    """The keys of the ``known`` answers that are about another content than the file has now.

    A file is read only where its state is not the one that the run noted with its hash. Answers
    about files that are not there any longer stand; ``on_note`` hears of both.
    """
    videos = run.videos()
    outdated: set[Key] = set()
    unseen: list[str] = []
    conditions = looker.settings.conditions
    with run.video_writer() as writer:
        for items in looks(run.items):
            keys = [(condition, item.id) for item in items for condition in conditions]
            answered = [key for key in keys if key in known and not known[key].failed]
            before = videos.get(look_id(items[0]))
            if not answered or before is None or before.sha256 is None:
                continue
            now = _as_it_is_now(items[0], before, looker)
            if now is None:
                unseen.append(items[0].video)
                continue
            changed = [
                key for key in answered if (known[key].sha256 or before.sha256) != now.sha256
            ]
            if changed:
                name = clean_name(items[0].video)
                on_note(
                    f"the video `{name}` has another content than when it was asked about: "
                    f"{_counted(len(changed), 'answer')} asked anew"
                )
                outdated |= set(changed)
            elif now != before:
                writer.write(now)  # the next run need not read it again
    if unseen:
        names = ", ".join(f"`{clean_name(name)}`" for name in unseen[:3])
        more = ", …" if len(unseen) > 3 else ""
        on_note(
            f"{_counted(len(unseen), 'video')} no longer found as answered about, so the answers "
            f"stand as they are: {names}{more}"
        )
    return outdated


def _as_it_is_now(item: EvalItem, before: EvalVideo, looker: Looker) -> EvalVideo | None:
    """``before`` with the state and hash that the file has now; None where there is none."""
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
    except SourceError:  # it is there, and no video any longer
        return replace(before, sha256=None)


def _counted(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"
