"""``ask --why`` and ``--check``: evidence for an answer, after it was given."""

from dataclasses import dataclass, replace

from smolvideo.answer import Answer, AnswerEvidence
from smolvideo.cli.ask_choices import Choices
from smolvideo.cli.conversations import ConversationFlags
from smolvideo.cli.flags import Flags, flag
from smolvideo.cli.model_options import RemoteFlags
from smolvideo.cli.options import SchemaFlags
from smolvideo.conversation import Conversation
from smolvideo.conversation.explain import explain_last_answer
from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.errors import UsageError
from smolvideo.evidence import (
    AnswerScores,
    answers_alike,
    check_answer,
    explain_answer,
    frame_batches,
)
from smolvideo.pipeline import PreparedPrompt
from smolvideo.show.console import Output
from smolvideo.show.evidence import show_evidence
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.show.progress_bar import StageProgress


class ProofFlags(Flags, section="Evidence"):
    """How an answer is proved."""

    why: bool = flag(
        excludes=("schema",),
        help="Show the frames that carry the answer: those that alone keep its score. They are not "
        "encoded again; the prompt is read up to three more times.",
    )
    check: bool = flag(
        help="Ask the same with grey frames, shuffled frames, and frames half a sampling step "
        "later; print whether the answer stands, and what the model says blind."
    )


def check_proof(given: ConversationFlags) -> None:
    """Check the options before any work. Raises UsageError where they cannot be honoured."""
    assert isinstance(given, ProofFlags)
    for name in ("why", "check"):
        if getattr(given, name) and getattr(given, "dry_run", False):
            raise UsageError(f"`--{name}` is about an answer, and with `--dry-run` there is none")
    if not given.why:
        return
    if isinstance(given, RemoteFlags) and given.server is not None:
        raise UsageError(
            "`--why` needs the scores of answers, which a server does not give",
            hint="leave `--server` out",
        )
    if isinstance(given, SchemaFlags) and given.schema is not None:
        raise UsageError("`--why` is about the model's own words, which `--schema` constrains")
    if given.engine == "transformers":
        raise UsageError(
            "`--why` reuses the features of the frames, which the engine `transformers` does not "
            "keep",
            hint="leave `--engine` out",
        )


@dataclass(frozen=True)
class Proof:
    """The evidence that was asked for, and how it is shown."""

    given: ProofFlags
    screen: Output
    filmstrip: FilmstripChoice

    def of(
        self,
        prepared: PreparedPrompt,
        answer: Answer,
        engine: Engine,
        session: Session | None,
        choices: Choices | None = None,
    ) -> Answer:
        """Return ``answer`` with its evidence and its controls, which are shown.

        ``session`` holds the frames of ``prepared``.
        """
        if self.given.why and session is not None:
            with StageProgress(self.screen) as stages:
                scores = AnswerScores(session, engine.checkpoint, prepared, answer)
                evidence = explain_answer(scores, on_progress=stages.on_progress)
            self._show(prepared, evidence)
            answer = replace(answer, evidence=evidence)
        return self.check(prepared, answer, engine, session, choices)

    def check(
        self,
        prepared: PreparedPrompt,
        answer: Answer,
        engine: Engine,
        session: Session | None,
        choices: Choices | None = None,
    ) -> Answer:
        """Return ``answer`` with its controls, which are shown."""
        if not self.given.check:
            return answer

        names = calibration = None
        if choices is not None:
            names, calibration = choices.names, choices.calibration(engine.checkpoint)
        with StageProgress(self.screen) as stages:
            checked = check_answer(
                answers_alike(prepared, engine, session, names, calibration),
                engine.checkpoint,
                prepared,
                answer,
                on_progress=stages.on_progress,
            )
        self.screen.notice(f"check: {checked.text}", requested=True)
        return replace(answer, check=checked)

    def _show(self, prepared: PreparedPrompt, evidence: AnswerEvidence) -> None:
        batches, layout = frame_batches(prepared), prepared.prompt.layout
        show_evidence(self.screen, batches, evidence, self.filmstrip, layout=layout)

    def of_last(
        self, conversation: Conversation, prepared: PreparedPrompt, answer: Answer
    ) -> Answer:
        """Return the last answer of ``conversation`` with its evidence and controls."""
        engine = conversation.load_engine()
        if self.given.why:
            with StageProgress(self.screen) as stages:
                explained = explain_last_answer(conversation, on_progress=stages.on_progress)
            self._show(prepared, explained.evidence)
            answer = replace(answer, evidence=explained.evidence)
        session = conversation.fork_session(engine) if isinstance(engine, SessionEngine) else None
        return self.check(prepared, answer, engine, session)
