"""Options of ``ask``, read and validated before any work."""

from dataclasses import dataclass

from smolvideo.cli.ask_arguments import (
    AskArguments,
    DryRunFlags,
    QuestionFlags,
    QuestionListFlags,
    split_arguments,
)
from smolvideo.cli.ask_choices import (
    ChoiceFlags,
    Choices,
    read_choices,
)
from smolvideo.cli.ask_proof import (
    ProofFlags,
    check_proof,
)
from smolvideo.cli.cache import CacheFlags
from smolvideo.cli.conversations import (
    ContinueFlags,
    ConversationFlags,
    KeepFlags,
    read_settings,
)
from smolvideo.cli.model_options import RemoteFlags
from smolvideo.cli.options import (
    DownloadFlags,
    SchemaFlags,
    ScreenFlags,
    allows_outside,
    read_download,
)
from smolvideo.cli.outputs import (
    OutputFlags,
    check_different_files,
    check_new_file,
    check_not_an_input_file,
    read_filmstrip,
)
from smolvideo.conversation import Settings
from smolvideo.errors import UsageError
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.source import DownloadOptions


class AskFlags(
    QuestionFlags,
    QuestionListFlags,
    DryRunFlags,
    ContinueFlags,
    KeepFlags,
    RemoteFlags,
    ConversationFlags,
    SchemaFlags,
    ChoiceFlags,
    ProofFlags,
    CacheFlags,
    DownloadFlags,
    OutputFlags,
    ScreenFlags,
):
    """All options of the command."""


@dataclass(frozen=True)
class AskRequest:
    """All options of the command, validated as far as possible without opening a video."""

    given: AskFlags
    typed: AskArguments
    settings: Settings
    download: DownloadOptions
    filmstrip: FilmstripChoice
    choices: Choices | None = None

    @property
    def shows_answer(self) -> bool:
        """Whether the answer streams to stdout; otherwise it is written when complete.

        JSON by a schema does not stream: half of a document is none.
        """
        whole = self.choices is not None or self.settings.generation.schema is not None
        return not whole and self.given.output is None and not self.given.as_json


def read_request(given: AskFlags) -> AskRequest:
    """Read and validate the options.

    Raises UsageError, PromptError, RecordError or SourceError for invalid ones.
    """
    filmstrip = read_filmstrip(given)
    for name, value in (
        ("--continue", given.goes_on),
        ("--output", given.output),
        ("--save", given.save),
    ):
        if given.dry_run and value:
            raise UsageError(f"`{name}` is for answers, and with `--dry-run` there is none")
    if given.dry_run and given.server is not None:
        raise UsageError("`--dry-run` is about this machine, and `--server` is another")
    check_proof(given)
    # Output files and combinations of options.
    if given.output is not None and given.save is not None:
        check_different_files(given.output, given.save)
    for name, path in (("--output", given.output), ("--save", given.save)):
        if path is not None:
            check_not_an_input_file(
                name,
                path,
                source_list=given.source_list,
                subtitles=given.subtitles,
                cookies=given.cookies,
            )
    choices, settings = read_choices(given), read_settings(given)
    if choices is not None and given.goes_on:
        if typed_choices := given.first_explicit("choices", "rate"):
            raise UsageError(
                f"`{typed_choices}` is for a question of its own, not for `--continue`",
                hint="name the video again",
            )
        choices = None
    if given.output is not None:
        check_new_file(given.output, overwrite=given.overwrite)
    elif given.is_explicit("overwrite"):
        raise UsageError("`--overwrite` has no effect without `--output`")
    if given.goes_on and given.no_keep:
        raise UsageError("`--continue` adds to a conversation that is kept: `--no-keep` cannot be")
    # Sources and question.
    typed = split_arguments(
        given.words,
        question=given.question,
        source_list=given.source_list,
        allow_outside=allows_outside(given),
        needs_source=not given.goes_on,
    )
    download = read_download(given, typed.sources, offline=given.offline)
    return AskRequest(given, typed, settings, download, filmstrip, choices)
