"""Shared fixtures of download tests: a server, a real clip, and short timeouts."""

import gc
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from support.webserver import WebServer

from smolvideo.source import DownloadOptions, resolve_source
from smolvideo.source.download_cache import download_folder

QUICK = DownloadOptions(timeout_seconds=120, retries=0)
"""No waits between retries; long timeouts, because a busy machine answers slowly."""
IMPATIENT = replace(QUICK, timeout_seconds=2)
"""For servers that never answer; long enough for any other on a busy machine."""


@pytest.fixture(scope="module")
def clip() -> bytes:
    """Return a real mp4 of some 200 kB, filled with incompressible noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (12, 96, 128, 3), dtype=np.uint8)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.bit_rate = 128, 96, 4_000_000
        for image in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    assert file.tell() > 100_000
    return file.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with WebServer() as running:
        yield running


@pytest.fixture
def streams_left_open() -> Iterator[None]:
    """Ignore that yt-dlp leaves the joined file open when a segment of a stream fails."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def download(url: str, options: DownloadOptions = QUICK, **more: object) -> Path:
    (source,) = resolve_source(url, download=options, **more)  # type: ignore[arg-type]
    return source.path


def partial_files(url: str) -> list[Path]:
    return sorted(download_folder(url).glob("*.part"))
