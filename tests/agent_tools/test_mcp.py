"""The tools for agents, by the protocol's own client: in the process, and over stdin and stdout."""

import asyncio
import json
import os
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from support.project import ROOT

from smolvideo.agent_tools import VideoTools
from smolvideo.agent_tools.mcp_server import make_server
from smolvideo.engines import Engine, load_engine
from smolvideo.engines.generate import GenerationState
from smolvideo.index import IndexOptions, IndexStore
from smolvideo.index.build import IndexRun
from smolvideo.summaries import list_items

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("nano", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos, with a secret beside it."""
    outer = tmp_path_factory.mktemp("agent")
    inside = outer / "videos"
    inside.mkdir()
    for name in ("circle_right.mp4", "triangle_down.mp4"):
        shutil.copy(SAMPLES / name, inside)
    shutil.copy(SAMPLES / "three_shots.mp4", outer / "secret.mp4")
    (inside / "link.mp4").symlink_to(outer / "secret.mp4")
    (inside / ".hidden.mp4").write_bytes(b"x")
    (inside / "notes.mp4").write_text("a text, not a video " * 20)
    return inside


@pytest.fixture(scope="module")
def tools(engine: Engine, folder: Path) -> VideoTools:
    return VideoTools(lambda _: engine, [folder])


def call(tools: VideoTools, name: str, **arguments: Any) -> tuple[dict[str, Any], bool]:
    """Return the structured result of a tool, or its text as an error."""

    async def run() -> tuple[dict[str, Any], bool]:
        async with Client(make_server(tools)) as client:
            found = await client.call_tool(name, arguments)
            if found.is_error:
                return {"error": found.content[0].text}, True  # type: ignore[union-attr]
            assert all(part.type == "text" for part in found.content), "text, no pictures"
            assert json.loads(found.content[0].text) == found.structured_content  # type: ignore[union-attr]
            return dict(found.structured_content or {}), False

    return asyncio.run(run())


def test_tools_are_listed_with_their_arguments(tools: VideoTools) -> None:
    async def run() -> Any:
        async with Client(make_server(tools)) as client:
            return (await client.list_tools()).tools

    listed = {tool.name: tool for tool in asyncio.run(run())}
    assert listed.keys() == {"ask_video", "find_in_videos", "video_info"}
    ask = listed["ask_video"]
    assert ask.input_schema["required"] == ["path", "question"]
    assert ask.annotations.read_only_hint is True
    assert "choices" in (ask.description or "")


def test_question_is_answered_with_text_and_times(tools: VideoTools, folder: Path) -> None:
    path = str(folder / "circle_right.mp4")
    found, failed = call(tools, "ask_video", path=path, question="What moves?")
    assert not failed
    assert (found["answer"], found["model"]) == ("a purple circle", "nano")
    assert len(found["frames_seen_at"]) == 50
    assert len(set(found["frames_seen_at"])) == 50, "times that differ look different"
    assert found["frames_seen_at"][0] == "0:00.000"
    # by a relative name, in a window
    found, _ = call(
        tools, "ask_video", path="circle_right.mp4", question="What moves?",
        start="0:01", end="3", max_frames=4,
    )  # fmt: skip
    assert found["frames_seen_at"] == ["0:01.000", "0:01.666", "0:02.333", "0:03.000"]


def test_choices_have_probabilities(tools: VideoTools) -> None:
    found, _ = call(
        tools, "ask_video", path="circle_right.mp4",
        question="Which way does the circle move?", choices=["left", "right"],
    )  # fmt: skip
    assert found["answer"] == "right"
    assert found["probabilities"]["right"] > found["probabilities"]["left"]


def test_information_on_a_video_and_a_folder(tools: VideoTools, folder: Path) -> None:
    found, _ = call(tools, "video_info", path="circle_right.mp4")
    assert (found["kind"], found["duration"]) == ("video", "0:06")
    assert found["width"] > 0 < found["average_fps"]
    listed, _ = call(tools, "video_info", path=str(folder))
    names = ["circle_right.mp4", "link.mp4", "notes.mp4", "triangle_down.mp4"]
    assert listed["files"] == names


def test_moments_are_found_in_a_video_and_in_the_index_of_allowed_folders(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index.sqlite"
    with IndexStore(index) as store:
        run = IndexRun(engine.checkpoint, lambda: engine, IndexOptions(max_frames=4), store)
        for _ in run.run(list_items([folder.parent])):
            pass
        assert any(path.endswith("secret.mp4") for path, _ in store.paths())
    own = VideoTools(lambda _: engine, [folder], index=index)
    found, _ = call(own, "find_in_videos", query="a purple circle")
    assert [Path(hit["path"]).name for hit in found["hits"]] == ["circle_right.mp4"]
    assert found["hits"][0]["start"] == "0:00.0"
    found, _ = call(own, "find_in_videos", query="a blue star", path="circle_right.mp4")
    assert found["hits"] == []
    hidden, _ = call(own, "find_in_videos", query="a red circle then a green cross")
    assert not any("secret" in hit["path"] for hit in hidden["hits"])


def test_search_without_an_index_names_the_command(
    engine: Engine, folder: Path, tmp_path: Path
) -> None:
    own = VideoTools(lambda _: engine, [folder], index=tmp_path / "none.sqlite")
    found, is_error = call(own, "find_in_videos", query="a circle")
    assert is_error
    assert "smolvideo index" in found["error"]


@pytest.mark.parametrize("tool", ["ask_video", "video_info"])
def test_only_allowed_folders_are_read(tools: VideoTools, folder: Path, tool: str) -> None:
    more = {"question": "What?"} if tool == "ask_video" else {}
    for path in (
        str(folder.parent / "secret.mp4"),
        "../secret.mp4",
        "link.mp4",
        "/etc/passwd",
        "/nothing/there.mp4",
        "\0",
    ):
        found, failed = call(tools, tool, path=path, **more)
        assert failed
        assert "is in no folder that may be read" in found["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "missing.mp4", "question": "?"}, "no such file"),
        ({"path": "https://example.org/a.mp4", "question": "?"}, "no such file"),
        ({"path": "~/a.mp4", "question": "?"}, "no such file"),
        ({"path": "notes.mp4", "question": "?"}, "is a text, not a video"),
        ({"path": "circle_right.mp4", "question": " "}, "the question is empty"),
        ({"path": "circle_right.mp4", "question": "?", "start": "soon"}, "is no time"),
        ({"path": "circle_right.mp4", "question": "?", "start": "99"}, "nothing to see"),
        ({"path": "circle_right.mp4", "question": "?", "choices": ["a"]}, "choices"),
        ({"path": "circle_right.mp4", "question": "?", "max_frames": -1}, "max_frames"),
        ({"path": "circle_right.mp4"}, "question"),
        ({"path": ".", "question": "?"}, "is a folder of"),
    ],
)
def test_mistakes_of_an_agent_are_explained(
    tools: VideoTools, arguments: dict[str, Any], message: str
) -> None:
    found, failed = call(tools, "ask_video", **arguments)
    assert failed
    assert message in found["error"]


def test_file_that_has_changed_is_opened_anew(tools: VideoTools, folder: Path) -> None:
    path = folder / "changing.mp4"
    answers = []
    for name in ("circle_right.mp4", "triangle_down.mp4"):
        shutil.copy(SAMPLES / name, path)
        found, _ = call(tools, "ask_video", path=str(path), question="What moves?")
        answers.append(found["answer"])
    path.unlink()
    assert answers == ["a purple circle", "an orange triangle"]


def test_cancelled_question_stops_the_work(
    tools: VideoTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()
    tokens: list[int] = []
    append: Callable[..., str] = GenerationState.append_token

    def held(self: GenerationState, *arguments: Any) -> str:
        tokens.append(len(tokens))
        reached.set()
        assert go_on.wait(300)
        return append(self, *arguments)

    monkeypatch.setattr(GenerationState, "append_token", held)

    async def run() -> None:
        asked: Awaitable[Any] = tools.ask_video("circle_right.mp4", "What moves?")
        task = asyncio.ensure_future(asked)
        await asyncio.to_thread(reached.wait, 300)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert tokens == [0]


def test_command_serves_on_stdin_and_stdout(folder: Path, tmp_path: Path) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "smolvideo", "mcp", "--model", "nano", "--allow-folder", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        cwd=tmp_path,
    )

    async def run() -> Any:
        with (tmp_path / "stderr").open("w") as errors:
            async with Client(stdio_client(server, errlog=errors)) as client:
                arguments = {"path": "circle_right.mp4", "question": "What moves?"}
                return await client.call_tool("ask_video", arguments)

    found = asyncio.run(run())
    assert found.structured_content["answer"] == "a purple circle"
    assert "Traceback" not in (tmp_path / "stderr").read_text()
