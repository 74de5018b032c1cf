"""The public Python API: open videos, whole and streamed answers, asyncio, closing, examples."""

import ast
import asyncio
import gc
import json
import pickle
import re
import runpy
import shutil
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import talking, tinymodels
from support.clipmaker import evenly, write_clip
from support.project import ROOT
from support.talking import CIRCLE, TRIANGLE
from support.terminals import environment

import smolvideo
import smolvideo.pipeline.prepare_prompt as preparing
from smolvideo import (
    AnswerRecord,
    DownloadOptions,
    Engine,
    FrameSampling,
    GenerationOptions,
    Message,
    ModelError,
    PromptError,
    SourceError,
    UsageError,
    Video,
)
from smolvideo.engines import ENGINES
from smolvideo.pipeline import NANO_NOTICE
from smolvideo.progress import Progress

SAMPLING = FrameSampling(max_frames=8)
WHAT = "What moves?"
ANSWERS = {
    WHAT: "a purple circle",
    "Which way does the circle move?": "right",
    "What is in this video?": "A purple circle moves right on a brown background.",
}
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.fixture
def video() -> Iterator[Video]:
    with smolvideo.open(talking.nano(), CIRCLE, sampling=SAMPLING) as opened:
        yield opened


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("engine") / "tiny")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    """A fresh engine of each kind."""
    return smolvideo.load_engine(str(tiny), engine=request.param, device="cpu")


# ------------------------------------------------------------------------------- names


def test_import_is_light_and_every_public_name_exists() -> None:
    code = (
        "import sys, smolvideo; print(*(m for m in ('torch', 'numpy', 'av') if m in sys.modules));"
        "print(*(n for n in dir(smolvideo) if getattr(smolvideo, n) is None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == "\n\n"
    assert set(smolvideo.__all__) | {"open"} == {*smolvideo._LAZY_IMPORTS, "__version__"}
    assert "open" not in smolvideo.__all__, "a star import would hide Python's own"
    errors = {n for n in smolvideo.__all__ if n.endswith("Error")}
    defined = ast.parse((ROOT / "smolvideo" / "errors.py").read_text("utf-8")).body
    assert errors == {node.name for node in defined if isinstance(node, ast.ClassDef)}


def test_python_page_names_every_public_object() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    named = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert named == {*smolvideo.__all__, "open"}


# ------------------------------------------------------------------------ open videos


def test_three_questions_decode_and_encode_frames_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decodes: list[object] = []
    encodes: list[int] = []
    sample = preparing.sample_frames
    engine = talking.nano()

    def watched(*args: object, **options: object) -> object:
        decodes.append(args)
        return sample(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(preparing, "sample_frames", watched)
    hook = engine.network.model.vision_model.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda module, args: encodes.append(len(args[0]))
    )
    with smolvideo.open(engine, CIRCLE, sampling=SAMPLING) as video:
        answers = [video.ask(question) for question in ANSWERS]
        scores = video.score("Does the circle move?", ["yes", "no"])
    hook.remove()
    assert len(decodes) == 1
    assert sum(encodes) == len(video.frames) == 8
    assert [str(answer) for answer in answers] == [*ANSWERS.values()]
    assert scores[0] > scores[1]
    assert list(answers[0].usage.seconds) == ["decode", "encode", "prefill", "generate"]
    assert "decode" not in answers[1].usage.seconds, "decoded before"
    assert engine.network is not None, "an engine that was handed in stays open"  # type: ignore[attr-defined]


def test_answer_has_the_fields_of_its_record(video: Video) -> None:
    answer = video.ask(WHAT)
    assert (answer.question, answer.text, str(answer)) == (WHAT, ANSWERS[WHAT], ANSWERS[WHAT])
    assert answer.frame_times == (video.frames.pts_seconds,)
    assert repr(answer) == "Answer('a purple circle', stop_reason='end', frames=8)"
    content = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert content["sources"] == [{"name": CIRCLE.name, "frame_times": [*video.frames.pts_seconds]}]
    assert content["tokens"]["prompt"] == answer.usage.prompt_tokens
    assert content.keys() <= AnswerRecord.__dataclass_fields__.keys()
    assert pickle.loads(pickle.dumps(answer)) == answer


def test_answer_has_notices_of_video_and_question(tmp_path: Path) -> None:
    write_clip(tmp_path / "real.mp4", evenly(4, 10))
    with smolvideo.open(talking.nano(), tmp_path / "real.mp4") as video:
        assert video.notices == (NANO_NOTICE,)
        answer = video.ask("Is there a zeppelin?", generation=GenerationOptions(max_new_tokens=4))
    assert answer.notices[0] == NANO_NOTICE
    assert any("zeppelin" in notice for notice in answer.notices)


def test_ask_equals_ask_of_an_open_video(video: Video) -> None:
    once = smolvideo.ask("nano", str(CIRCLE), WHAT, sampling=SAMPLING)
    assert once.text == video.ask(WHAT).text
    assert once.usage.tokens == video.ask(WHAT).usage.tokens


def test_streamed_pieces_join_to_the_answer(video: Video) -> None:
    with video.stream("What is in this video?") as stream:
        pieces = list(stream)
    assert len(pieces) > 5
    assert "".join(pieces) == stream.result().text == ANSWERS["What is in this video?"]
    with video.stream("What is in this video?") as stopped:
        next(iter(stopped))
    with pytest.raises(ModelError, match="broken off"):
        stopped.result()


def test_prompt_order_is_frames_history_question(video: Video) -> None:
    earlier = Message("user", (WHAT,)), Message("assistant", (ANSWERS[WHAT],))
    answer = video.ask("Which way does it move?", history=earlier)
    assert answer.text == "right"
    assert answer.usage.frames == 8
    with pytest.raises(UsageError, match="begins with a message of the `user`"):
        video.ask("And then?", history=earlier[1:])


def test_several_sources_share_the_frames(tmp_path: Path) -> None:
    with smolvideo.open(talking.nano(), [CIRCLE, TRIANGLE], sampling=SAMPLING) as video:
        assert [len(batch) for batch in video.batches] == [4, 4]
        assert repr(video) == "<Video circle_right.mp4, triangle_down.mp4: 8 frames, nano>"
        assert [len(times) for times in video.ask(WHAT).frame_times] == [4, 4]
        with pytest.raises(UsageError, match="2 sources are open"):
            _ = video.frames


def test_subtitles_are_read_once(video: Video) -> None:
    path = talking.SUBTITLED
    with smolvideo.open(talking.nano(), path, sampling=SAMPLING, subtitles="auto") as subtitled:
        with_text = subtitled.ask("What is said?").usage.prompt_tokens
    with smolvideo.open(talking.nano(), path, sampling=SAMPLING) as plain:
        assert plain.ask("What is said?").usage.prompt_tokens < with_text
    with pytest.raises(UsageError, match="one video"):
        smolvideo.open(talking.nano(), [path, path], subtitles="auto")


def test_long_question_reduces_the_frames_with_a_notice(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    write_clip(path, evenly(60, 10))
    engine = smolvideo.load_engine(tiny, device="cpu")
    generation = GenerationOptions(max_new_tokens=8)
    with smolvideo.open(engine, path, generation=generation) as video:
        short = video.ask("What?")
        long = video.ask("What? " * 250)
        assert short.usage.frames == len(video.frames) == 50
        assert 0 < long.usage.frames < 50
        assert len(long.frame_times[0]) == long.usage.frames
        assert any("more do not fit" in notice for notice in long.notices)
        assert video.ask("What?").text == short.text
    exact = FrameSampling(max_frames=50, reduce_to_fit=False)
    with (
        smolvideo.open(engine, path, generation=generation, sampling=exact) as video,
        pytest.raises(PromptError, match="the text take"),
    ):
        video.ask("What? " * 250)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("samples/none.mp4", SourceError, "no such file"),
        ("", SourceError, "empty"),
        (None, UsageError, "a path, a URL or a list of them, not None"),
        (3, UsageError, "not 3"),
        (b"a.mp4", UsageError, "not b'a.mp4'"),
        ([CIRCLE, 3], UsageError, "not 3"),
        ("https://example.com/a.mp4", SourceError, "not in the download cache"),
    ],
)
def test_source_errors_come_before_loading_the_model(
    source: object, error: type[Exception], message: str
) -> None:
    offline = DownloadOptions(offline=True)
    with pytest.raises(error, match=message):
        smolvideo.open("no-model", source, download=offline)  # type: ignore[arg-type]


def test_invalid_questions_and_models_are_errors(video: Video) -> None:
    for question in ("", " \n"):
        with pytest.raises(PromptError, match="question is empty"):
            video.ask(question)
        with pytest.raises(PromptError, match="question is empty"):
            smolvideo.ask("nano", "samples/none.mp4", question)
    with pytest.raises(UsageError, match="not None"):
        smolvideo.open(None, CIRCLE)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="several texts"):
        video.score(WHAT, "yes")
    with pytest.raises(TypeError, match="generations"):
        video.ask(WHAT, generations=None)  # type: ignore[call-arg]
    with pytest.raises(ModelError, match="not on this machine"):
        smolvideo.open("smolvlm2-256m", CIRCLE, download=DownloadOptions(offline=True))


# ------------------------------------------------------------------------------ closing


def test_closed_engine_frees_weights_and_refuses_calls(engine: Engine) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2))
    network = weakref.ref(engine.network)  # type: ignore[attr-defined]
    with engine as entered:
        assert entered is engine
        running = engine.stream(prompt)
        next(iter(running))
        session = engine.open_session() if hasattr(engine, "open_session") else engine
    engine.close()
    gc.collect()
    assert network() is None, "the weights are freed, whatever still refers to the engine"
    assert repr(engine).endswith("closed>")
    uses: list[Callable[[], object]] = [
        lambda: engine.stream(prompt),
        lambda: engine.score(prompt, ["yes"]),
        lambda: session.stream(prompt),
        lambda: session.score(prompt, ["yes"]),
        running.result,
    ]
    for use in uses:
        with pytest.raises(ModelError, match=r"engine is closed|broken off"):
            use()


def test_video_closes_only_the_engine_that_it_opened(tiny: Path) -> None:
    with smolvideo.load_engine(tiny, device="cpu") as handed_in:
        for model in (tiny, handed_in):
            with smolvideo.open(model, CIRCLE, sampling=SAMPLING) as video:
                assert "closed" not in repr(video)
            video.close()
            assert ("closed" in repr(video.engine)) == (model is tiny)
            assert repr(video).endswith("closed>")
            assert len(video.frames) == 8
            for use in (video.ask, video.stream, video.astream, lambda q: video.score(q, ["a"])):
                with pytest.raises(ModelError, match="the video is closed"):
                    use("What?")
        with smolvideo.open(handed_in, CIRCLE, sampling=SAMPLING) as video:
            handed_in.close()
            with pytest.raises(ModelError, match="the engine is closed"):
                video.ask("What?")


# ------------------------------------------------------------------- threads and asyncio


def test_video_is_safe_from_several_threads(video: Video) -> None:
    found: list[tuple[str, str]] = []

    def ask(question: str) -> None:
        found.append((question, video.ask(question).text))

    threads = [threading.Thread(target=ask, args=(question,)) for question in [*ANSWERS] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([*ANSWERS.items()] * 3)


def test_interrupt_leaves_the_video_usable(video: Video) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "generate" and progress.done == 2:
            raise KeyboardInterrupt

    stream = video.stream("What is in this video?", on_progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        stream.result()
    with pytest.raises(ModelError, match="broken off"):
        stream.result()
    assert video.ask(WHAT).text == ANSWERS[WHAT]


def test_gathered_questions_do_not_block_the_event_loop(video: Video) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> None:
        counting = asyncio.create_task(count())
        answers = await asyncio.gather(*map(video.aask, ANSWERS))
        counting.cancel()
        assert [answer.text for answer in answers] == [*ANSWERS.values()]
        assert turns > len(ANSWERS)
        before, pieces = turns, []
        async with video.astream("What is in this video?") as stream:
            async for piece in stream:
                pieces.append(piece)
        assert before == turns, "the counter was cancelled"
        assert "".join(pieces) == (await stream.result()).text

    asyncio.run(main())


@pytest.mark.parametrize("stage", ["encode", "generate"])
def test_cancelled_task_ends_after_its_thread(video: Video, stage: str) -> None:
    reports: list[Progress] = []

    async def main() -> None:
        loop, reached = asyncio.get_running_loop(), asyncio.Event()
        go_on = threading.Event()

        def report(progress: Progress) -> None:
            reports.append(progress)
            if progress.stage == stage and progress.done >= 2:
                loop.call_soon_threadsafe(reached.set)
                go_on.wait(300)  # the step blocks until the task is cancelled

        stream = video.astream("What is in this video?", on_progress=report)
        asking = asyncio.create_task(stream.result())
        await reached.wait()
        asking.cancel()
        await asyncio.sleep(0)
        assert not asking.done(), "it waits for the thread"
        seen = len(reports)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(reports) == seen, "nothing was computed after the token"
        with pytest.raises(ModelError, match="broken off"):
            await stream.result()
        assert (await video.aask(WHAT)).text == ANSWERS[WHAT]

    asyncio.run(main())
    assert reports[-1].stage == stage


def test_aopen_can_be_cancelled_and_raises_in_the_task(tiny: Path) -> None:
    async def main() -> None:
        with pytest.raises(SourceError, match="no such file"):
            await smolvideo.aask("nano", "samples/none.mp4", WHAT)
        with pytest.raises(PromptError, match="question is empty"):
            async with smolvideo.aopen(talking.nano(), CIRCLE, sampling=SAMPLING) as video:
                await video.aask(" ")
        decoding = asyncio.Event()
        loop, go_on = asyncio.get_running_loop(), threading.Event()

        def report(progress: Progress) -> None:
            if progress.stage == "decode":
                loop.call_soon_threadsafe(decoding.set)
                go_on.wait(300)

        asking = asyncio.create_task(smolvideo.aask(tiny, CIRCLE, WHAT, on_progress=report))
        await decoding.wait()
        asking.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(main())


# ----------------------------------------------------------------------------- examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(ROOT)
    main = runpy.run_path(str(path))["main"]
    if path.stem == "async_server":
        asyncio.run(talk_to(main))
        return
    if path.stem == "batch_folder":
        shutil.copy(CIRCLE, tmp_path)
        (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
        main(str(tmp_path))
    else:
        main()
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    expected = {
        "ask_one": "a purple circle",
        "many_questions": "16 frames of 6 s",
        "score_options": "right",
        "batch_folder": '{"question": "What colour is the background?"',
    }
    assert lines[0].startswith(expected[path.stem])
    if path.stem == "batch_folder":
        assert [json.loads(line)["sources"][0]["name"] for line in lines] == [CIRCLE.name]
        assert shown.err.startswith("broken.mp4: ")
    if path.stem == "many_questions":
        assert lines[1:] == [*ANSWERS.values(), "right"]


async def talk_to(main: Callable[..., object]) -> None:
    """Ask the example server two questions, one of them empty, and disconnect."""
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    serving = asyncio.create_task(main(port=port))  # type: ignore[arg-type]
    while not serving.done():
        try:
            reader, writer = await asyncio.open_connection("localhost", port)
            break
        except OSError:
            await asyncio.sleep(0.01)
    writer.write(f"{WHAT}\n\n".encode())
    assert (await reader.readline()).decode().strip() == ANSWERS[WHAT]
    assert b"question is empty" in await reader.readline()
    writer.close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


def test_python_page_has_the_example_files_verbatim() -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    for path in EXAMPLES:
        assert f"(examples/{path.name})" in page, path.name
