"""``ask --why``: the frames that carry the answer, after it was given."""

from dataclasses import replace

from smolvideo.answer import Answer
from smolvideo.cli.conversations import ConversationFlags
from smolvideo.cli.flags import Flags, flag
from smolvideo.cli.model_options import RemoteFlags
from smolvideo.conversation import Conversation
from smolvideo.conversation.explain import explain_last_answer
from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.errors import UsageError
from smolvideo.evidence import AnswerScores, explain_answer
from smolvideo.pipeline import PreparedPrompt
from smolvideo.show.console import Output
from smolvideo.show.evidence import show_evidence
from smolvideo.show.filmstrip import FilmstripChoice
from smolvideo.show.progress_bar import StageProgress


class ProofFlags(Flags, section="Evidence"):
    """How an answer is proved."""

    why: bool = flag(
        help="Show the frames that carry the answer: those that alone keep its score. They are not "
        "encoded again; the prompt is read up to three more times."
    )


def check_proof(given: ConversationFlags) -> None:
    """Check the options before any work. Raises UsageError where they cannot be honoured."""
    assert isinstance(given, ProofFlags)
    if not given.why:
        return
    if getattr(given, "dry_run", False):
        raise UsageError("`--why` is about an answer, and with `--dry-run` there is none")
    if isinstance(given, RemoteFlags) and given.server is not None:
        raise UsageError(
            "`--why` needs the scores of answers, which a server does not give",
            hint="leave `--server` out",
        )
    if given.engine == "transformers":
        raise UsageError(
            "`--why` reuses the features of the frames, which the engine `transformers` does not "
            "keep",
            hint="leave `--engine` out",
        )


def open_session(engine: Engine, prepared: PreparedPrompt) -> Session | None:
    """Open a session with room for the prompt and its answer; None if the engine has none."""
    if not isinstance(engine, SessionEngine):
        return None
    tokens = len(prepared.prompt) + prepared.generation.max_new_tokens
    return engine.open_session(cache_capacity=min(tokens, engine.checkpoint.context_tokens))


def prove_answer(
    given: ProofFlags,
    prepared: PreparedPrompt,
    answer: Answer,
    engine: Engine,
    session: Session | None,
    screen: Output,
    filmstrip: FilmstripChoice,
) -> Answer:
    """Return ``answer`` with the evidence that was asked for, which is shown."""
    if not given.why or session is None:
        return answer
    with StageProgress(screen) as stages:
        scores = AnswerScores(session, engine.checkpoint, prepared, answer)
        evidence = explain_answer(scores, on_progress=stages.on_progress)
    show_evidence(screen, prepared, evidence, filmstrip)
    return replace(answer, evidence=evidence)


def explain_last(conversation: Conversation, screen: Output, filmstrip: FilmstripChoice) -> Answer:
    """Explain the last answer of ``conversation``, show and return it with its evidence."""
    with StageProgress(screen) as stages:
        explained = explain_last_answer(conversation, on_progress=stages.on_progress)
    show_evidence(screen, explained.prepared, explained.evidence, filmstrip)
    return replace(explained.answer, evidence=explained.evidence)
