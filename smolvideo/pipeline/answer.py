"""Answer a question: prepare the prompt, and stream the engine's tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from smolvideo.answer import Answer, AnswerStream
from smolvideo.engines import Engine, GenerationOptions
from smolvideo.pipeline.prepare_prompt import PreparedPrompt, Sources, prepare
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, PromptOptions
from smolvideo.sampling import FrameSampling


def ask(
    engine: Engine,
    sources: Sources,
    question: str,
    *,
    sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    history: Sequence[Message] = (),
    subtitles: str | None = None,
    on_progress: OnProgress = no_progress,
) -> AnswerStream:
    """Answer ``question`` about ``sources``: frames are decoded now, tokens while iterating.

    >>> from smolvideo import ask, load_engine
    >>> answer = ask(load_engine("nano"), "samples/circle_right.mp4", "What moves?")
    >>> answer.result().text
    'a purple circle'

    Raises what ``prepare`` raises.
    """
    prepared = prepare(
        engine.checkpoint,
        sources,
        question,
        sampling=sampling,
        prompt_options=prompt_options,
        generation=generation,
        reader=reader,
        history=history,
        subtitles=subtitles,
        on_progress=on_progress,
    )
    return stream_answer(engine, prepared, on_progress=on_progress)


def stream_answer(
    engine: Engine, prepared: PreparedPrompt, *, on_progress: OnProgress = no_progress
) -> AnswerStream:
    """Stream the answer to a prepared prompt.

    ``Usage.seconds`` includes the stages of preparation, such as decoding, and ``Answer.notices``
    the notices of ``prepared``.
    """
    stream = engine.stream(prepared.prompt, prepared.generation, on_progress=on_progress)
    return with_prepared(prepared, stream)


def with_prepared(prepared: PreparedPrompt, stream: AnswerStream) -> AnswerStream:
    """Wrap ``stream`` so that its answer includes the times and notices of ``prepared``."""

    def pieces() -> Iterator[str]:
        try:
            yield from stream
        finally:
            stream.close()

    def finish(text: str) -> Answer:
        answer = stream.result()
        return replace(
            answer,
            text=text,
            usage=replace(answer.usage, seconds={**prepared.seconds, **answer.usage.seconds}),
            notices=(*prepared.notices, *answer.notices),
        )

    return AnswerStream(pieces(), finish)
