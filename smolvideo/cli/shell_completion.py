"""Shell completion of arguments and option values: files, models, conversations."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_MAX_HELP = 60


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete files and folders, which is left to the shell."""
    return [CompletionItem(incomplete, type="file")]


def complete_names(*names: str, files: bool = False) -> Completer:
    """Create a completer of ``names``; with ``files`` also of files and folders."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = _beginning_with(incomplete, ((name, "") for name in names))
        return found + (complete_files(ctx, param, incomplete) if files else [])

    return complete


def complete_models(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete model names, hub checkpoints on this machine, and folders."""
    from smolvideo.models import MODELS, list_local

    local = (one.repo_id for one in list_local() if one.problem is None)
    names = dict.fromkeys(["auto", *MODELS, *(name for name in local if "/" in name)])
    # The shell completes a partial path, but only if no names are offered with it.
    is_path = incomplete.startswith((".", "/", "~"))
    folders = [CompletionItem(incomplete, type="dir")]
    return folders if is_path else _beginning_with(incomplete, ((name, "") for name in names))


def complete_conversations(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete ids of saved conversations, the last used first, with their first question."""
    from smolvideo.conversation.store import list_sessions
    from smolvideo.sanitize import display_name

    return _beginning_with(
        incomplete,
        (
            (kept.id, display_name(kept.first_question or "nothing asked", _MAX_HELP))
            for kept in list_sessions()
        ),
    )


def complete_browsers(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete browsers whose cookies yt-dlp can read."""
    from yt_dlp.cookies import SUPPORTED_BROWSERS

    return _beginning_with(incomplete, ((name, "") for name in sorted(SUPPORTED_BROWSERS)))


def complete_commands(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete names of commands that have options in the configuration file."""
    from smolvideo.cli.config_file import table_names

    names = table_names(ctx.find_root().command)
    return _beginning_with(incomplete, ((name, "") for name in names))


def complete_settings(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete keys of the configuration file, as deep as what is typed, and names of tables."""
    keys = {
        ".".join((*names[:depth], last))
        for names, key, _ in _settings(ctx)
        for depth in range(len(names) + 1)
        for last in (key, *([f"{names[depth]}."] if depth < len(names) else []))
    }
    deep = incomplete.count(".")
    names = sorted(key for key in keys if key.rstrip(".").count(".") == deep)
    return _beginning_with(incomplete, ((name, "") for name in names))


def complete_setting_values(
    ctx: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the value of the key that is typed before it."""
    *tables, key = str(ctx.params.get("key")).split(".")
    for names, name, option in _settings(ctx):
        if name == key and list(names[: len(tables)]) == tables:
            if option.is_flag:
                return _beginning_with(incomplete, (("true", ""), ("false", "")))
            return option.shell_complete(ctx, incomplete)
    return []


def _settings(ctx: click.Context) -> Iterator[tuple[tuple[str, ...], str, click.Option]]:
    """Yield every option of every command: the names of the command, its own, and itself."""
    from smolvideo.cli.config_file import long_options, walk

    for names, command in walk(ctx.find_root().command):
        for key, option in long_options(command).items():
            yield names, key, option


def _beginning_with(incomplete: str, names: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=about or None)
        for name, about in names
        if name.startswith(incomplete)
    ]


BY_METAVAR: Mapping[str, Completer] = {
    "DEVICE": complete_names("auto", "cpu", "cuda", "mps"),
    "DTYPE": complete_names("auto", "bfloat16", "float16", "float32"),
    "BROWSER": complete_browsers,
    "ID": complete_conversations,
    "SCHEMA": complete_files,
    "FILE|auto": complete_names("auto", files=True),
    "FILE|world": complete_names("world", files=True),
    "PARTS": complete_names("decoder", "connector", "vision", "rows"),
    "WHAT": complete_names("auto", "self", "world", "none", files=True),
    "ADDRESS": complete_names("127.0.0.1", "0.0.0.0"),
    "URL": complete_names("http://127.0.0.1:8000"),
    "[ADDRESS]": complete_names("auto", "local", "ray://"),
}
"""Metavar of an option → completer of its value."""
