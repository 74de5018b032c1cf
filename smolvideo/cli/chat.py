"""``smolvideo chat``: a conversation about videos, in the full-screen UI or line by line."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

import click

from smolvideo.cli.conversations import (
    ContinueFlags,
    ConversationFlags,
    KeepFlags,
    load_engine_for,
    merge_settings,
    other_model,
    read_settings,
    with_model,
)
from smolvideo.cli.flags import Flags, SectionCommand, argument, flag, takes
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.model_options import RemoteFlags
from smolvideo.cli.options import DownloadFlags, read_download
from smolvideo.cli.shell_completion import complete_files
from smolvideo.conversation import Conversation
from smolvideo.conversation.resume import Startup, resume
from smolvideo.conversation.store import (
    create,
    delete,
    latest_id,
    list_sessions,
    question_history,
    reopen,
)
from smolvideo.cost.choose import all_drawn
from smolvideo.engines import EngineSpec
from smolvideo.errors import SourceError, UsageError
from smolvideo.formatting import format_bytes
from smolvideo.show.console import open_screen, query_capabilities, use_colour
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tables import show_table
from smolvideo.source import DownloadOptions, VideoSource, is_url, resolve_source

if TYPE_CHECKING:
    from smolvideo.tui.image_view import PictureKind

Theme = Literal["auto", "dark", "light"]


class SourceFlags(Flags):
    """The sources."""

    sources: tuple[str, ...] = argument(
        nargs=-1, metavar="SOURCE...", shell_complete=complete_files
    )


class SessionFlags(ContinueFlags, section="Conversation"):
    """Which conversation."""

    session: str | None = flag(
        metavar="ID",
        excludes=("no_keep", "goes_on"),
        show_default="none",
        help="Continue this conversation.",
    )
    lists: bool = flag("--sessions", help="List the saved conversations and exit.")
    forget: str | None = flag(
        metavar="ID",
        show_default="none",
        help="Delete this conversation and exit.",
    )


class ChatScreenFlags(Flags, section="Terminal"):
    """How the conversation is shown."""

    plain: bool = flag(
        help="Line by line, without the full screen; the default if stdin or stdout is not"
        " a terminal. Each line of stdin is a question or a command."
    )
    jsonl: bool = flag(help="With --plain: the record of each answer as a JSON line.")
    filmstrip: FilmstripChoice = flag(
        type=click.Choice(get_args(FilmstripChoice)),
        default="auto",
        envvar="SMOLVIDEO_FILMSTRIP",
        show_envvar=True,
        help="How to show the frames; auto is the best that the terminal supports.",
    )
    theme: Theme = flag(
        type=click.Choice(get_args(Theme)),
        default="auto",
        envvar="SMOLVIDEO_THEME",
        show_envvar=True,
        help="Colours for a dark or a light terminal; auto queries it.",
    )


class ChatFlags(
    SourceFlags,
    SessionFlags,
    KeepFlags,
    RemoteFlags,
    ConversationFlags,
    DownloadFlags,
    ChatScreenFlags,
):
    """All options of the command."""

    @property
    def resumes(self) -> bool:
        """Whether a saved conversation is reopened."""
        return self.goes_on or self.session is not None


@click.command(cls=SectionCommand)
@takes(ChatFlags)
def chat(given: ChatFlags) -> int | None:
    """Talk about videos: see what the model sees.

    Shows the frames on a time line next to the conversation. Every further question prefills only
    its own tokens. In the prompt, / begins a command, and F1 shows all keys. Conversations are
    saved on this machine and can be continued.

    \b
    smolvideo chat party.mp4
    smolvideo chat --model smolvlm2-500m before.mp4 after.mp4
    smolvideo chat --continue
    echo "What moves?" | smolvideo chat --plain party.mp4
    """
    if given.lists:
        _list_sessions()
        return None
    if given.forget is not None:
        delete(given.forget)
        return None
    plain = given.plain or not _can_draw()
    _check(given, plain=plain)
    if plain:
        from smolvideo.cli.chat_lines import chat_lines

        with _start(given) as start:
            return chat_lines(start, filmstrip=given.filmstrip, as_json=given.jsonl)
    return _full_screen(given)


def _check(given: ChatFlags, *, plain: bool) -> None:
    if given.is_explicit("jsonl") and not plain:
        raise UsageError("`--jsonl` is for `--plain`")
    if plain and given.is_on_command_line("theme"):
        raise UsageError("`--theme` is for the full screen")
    if given.session is not None and given.goes_on:
        raise UsageError("`--continue` and `--session` contradict each other")
    if given.resumes and given.no_keep:
        raise UsageError("the conversation is kept already: `--no-keep` cannot be")
    if plain and not given.resumes and not given.sources:
        raise UsageError(
            "no video to talk about", hint="`smolvideo chat VIDEO`, or `smolvideo chat --continue`"
        )
    if given.is_explicit("subtitles") and not given.sources:
        raise UsageError("`--subtitles` needs a source to belong to")


def _can_draw() -> bool:
    """Whether stdin and stdout are a terminal that can move its cursor."""
    dumb = os.environ.get("TERM", "") in ("", "dumb") and sys.platform != "win32"
    return sys.stdin.isatty() and sys.stdout.isatty() and not dumb


def _full_screen(given: ChatFlags) -> int:
    """Run the app, again for each conversation chosen in it, and return the exit code."""
    from smolvideo.tui.app import ChatApp

    pictures, theme, no_colour = _how_to_draw(given)
    begun: AbstractContextManager[Startup] = _start(given)
    while True:
        with begun as start:
            app = ChatApp(
                start,
                pictures=pictures,
                theme=theme,
                history=question_history(),
                no_colour=no_colour,
            )
            chosen = app.run()
        if chosen is None:
            return app.return_code or 0
        begun = _resumed(chosen)


def _how_to_draw(given: ChatFlags) -> "tuple[PictureKind, str, bool]":
    """Choose the kind of images, the theme, and whether to use no colour.

    Raises UsageError for an explicit kind that cannot be drawn.
    """
    from smolvideo.tui.image_view import check_protocol, has_pixels

    choice, theme = given.filmstrip, given.theme
    no_colour = not use_colour()
    if no_colour and choice in ("blocks", "kitty", "sixel"):
        raise UsageError(
            f"`--filmstrip {choice}` is colour, and NO_COLOR asks for none",
            hint="leave the option out: frames are then drawn in shades of text",
        )
    abilities = query_capabilities()
    kind: PictureKind = "blocks"
    if choice == "times" or choice == "none":
        kind = "none"
    elif no_colour:
        kind = "shades"
    elif choice != "auto":
        kind = choice
    elif has_pixels() and (abilities.sixel or abilities.kitty):
        # Sixel first: some terminals with kitty graphics cannot place images inside text.
        kind = "sixel" if abilities.sixel else "kitty"
    check_protocol(kind)
    if theme == "auto":
        theme = "light" if abilities.is_light_background else "dark"
    return kind, theme, no_colour


@contextmanager
def _resumed(session_id: str) -> Iterator[Startup]:
    """Reopen a conversation chosen in the list, with its own settings."""
    with reopen(session_id) as (journal, kept):
        conversation = resume(kept, load_engine_for, keeper=journal)
        yield Startup(conversation, journal=journal, kept=kept)


@contextmanager
def _start(given: ChatFlags) -> Iterator[Startup]:
    sources = given.sources
    subtitles = given.subtitles if sources else None
    download = read_download(given, sources, offline=given.offline)
    with ExitStack() as stack:
        if given.resumes:
            journal, kept = stack.enter_context(reopen(given.session or latest_id()))
            settings = merge_settings(given, kept.settings, has_sources=bool(sources))
            conversation = resume(kept, load_engine_for, keeper=journal, settings=settings)
            model = other_model(given, kept.settings)
            yield Startup(conversation, sources, download, journal, kept, model, subtitles)
            return
        settings = with_model(read_settings(given), _choose_engine(given, download))
        new = None if given.no_keep else stack.enter_context(create(settings))
        conversation = Conversation(settings, load_engine_for, store=new)
        yield Startup(conversation, sources, download, new, subtitles=subtitles)


def _choose_engine(given: ChatFlags, download: DownloadOptions) -> EngineSpec:
    """Choose the model by the first sources; an address is not downloaded for that."""
    screen = open_screen()

    def drawn() -> bool:
        sources: list[VideoSource] = []
        for one in given.sources:
            if is_url(one):
                return False
            with suppress(SourceError):  # reported when it is attached
                sources += resolve_source(one, download=download)
        return all_drawn(sources, reader=given.reader)

    with StageProgress(screen) as stages:
        return choose_engine(given, screen, drawn=drawn, frames=given.max_frames, stages=stages)


def _list_sessions() -> None:
    screen = open_screen()
    rows = [
        [
            session.id,
            datetime.fromtimestamp(session.last_used).strftime("%Y-%m-%d %H:%M"),
            str(session.turns),
            format_bytes(session.size_bytes),
            ", ".join(session.sources),
            session.first_question,
        ]
        for session in list_sessions()
    ]
    columns = ["id", "last used", "questions", "size", "sources", "first question"]
    show_table(screen, columns, rows, right=frozenset({2, 3}))
