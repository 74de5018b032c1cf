"""A real server on loopback in a thread, with nano, for the clients of tests.

with running_server() as server:
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
"""

import base64
import contextlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from support.project import ROOT

from smolvideo.engines import Engine, load_engine
from smolvideo.models import open_checkpoint
from smolvideo.pipeline import load_frames
from smolvideo.progress import OnProgress
from smolvideo.sampling import FrameSampling
from smolvideo.serve import ServerOptions
from smolvideo.serve.listen import VideoServer

SAMPLES = ROOT / "samples"
CIRCLE = SAMPLES / "circle_right.mp4"


@contextlib.contextmanager
def running_server(
    engine: Engine | None = None, *, notices: list[str] | None = None, **options: Any
) -> Iterator[VideoServer]:
    """Run a server with ``options`` on a free port until the block ends; loaded when it begins."""
    ready = threading.Event()

    def load(on_progress: OnProgress) -> Engine:
        return engine or load_engine("nano", device="cpu", on_progress=on_progress)

    server = VideoServer(
        ServerOptions(port=0, **options),
        open_checkpoint("nano"),
        load,
        on_notice=(notices if notices is not None else []).append,
        on_ready=ready.set,
    )
    thread = threading.Thread(target=server.run, name="test server")
    thread.start()
    try:
        assert ready.wait(300)
        while thread.is_alive() and not server.is_listening:
            time.sleep(0.002)
        yield server
    finally:
        server.stop()
        thread.join(300)
        assert not thread.is_alive()


def data_uri(path: Path, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def video_part(path: Path = CIRCLE) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": data_uri(path)}}


def asked(question: str, *parts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a question about ``parts``; about the circle without any."""
    content = [*(parts or (video_part(),)), {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def frames_as_jpeg(count: int = 8) -> list[str]:
    """Return frames of the circle in order, as base64 of JPEG."""
    found = []
    for image in load_frames(CIRCLE, FrameSampling(max_frames=count)).images:
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "JPEG", quality=95)
        found.append(base64.b64encode(encoded.getvalue()).decode())
    return found
