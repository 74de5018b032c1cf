"""Many clients of ``smolvideo serve`` for minutes: lost requests, latency, memory.

    python tests/stress/served_load.py --minutes 5 --json .github/bench/served-load.json
    python tests/stress/served_load.py --overhead --json .github/bench/served-load.json

A server with nano runs as a process of its own; clients are OpenAI's. Requests are whole and
streamed, about the samples, about lists of frames, and some leave in the middle. With --overhead
the time to the first token of a further question is compared with that of the engine in a process.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import openai
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.apiserver import SAMPLES, asked, frames_as_jpeg, video_part
from support.project import ROOT

QUESTIONS = (
    "What moves?",
    "What is in this video?",
    "Which way does the circle move?",
    "What colour is the background?",
    "How many shapes are there?",
)


def start_server(*options: str) -> tuple[subprocess.Popen[bytes], str]:
    command = [sys.executable, "-m", "smolvideo", "serve", "--model", "nano", "--port", "0"]
    process = subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        words = line.decode().split()
        url = next((word for word in words if word.startswith("http://")), url)
        if b"is ready" in line:
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process, url


class Load:
    """Requests of one run, by all clients together."""

    def __init__(self, url: str, end: float) -> None:
        self.url = url
        self.end = end
        self.seconds: list[float] = []
        self.first_token: list[float] = []
        self.errors: list[str] = []
        self.left = self.refused = 0
        self._frames = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{one}"}}
            for one in frames_as_jpeg()
        ]
        self._videos = [video_part(path) for path in sorted(SAMPLES.glob("*.mp4"))]

    def run_client(self, number: int) -> None:
        chance = random.Random(number)
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        while time.monotonic() < self.end:
            media = self._frames if chance.random() < 0.1 else [chance.choice(self._videos)]
            started = time.monotonic()
            try:
                self._ask(client, media, chance)
                self.seconds.append(time.monotonic() - started)
            except openai.InternalServerError as error:
                if error.status_code != 503:
                    self.errors.append(str(error))
                self.refused += error.status_code == 503
                time.sleep(0.2)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")

    def _ask(self, client: openai.OpenAI, media: list[Any], chance: random.Random) -> None:
        body: dict[str, Any] = {
            "model": "nano",
            "messages": asked(chance.choice(QUESTIONS), *media),
            "max_tokens": 40,
        }
        if chance.random() < 0.5:
            answer = client.chat.completions.create(**body)
            assert answer.choices[0].finish_reason
            return
        started = time.monotonic()
        leaves = chance.random() < 0.1
        with client.chat.completions.create(**body, stream=True) as stream:
            reasons = []
            for place, chunk in enumerate(stream):
                if place == 0:
                    self.first_token.append(time.monotonic() - started)
                    if leaves:
                        self.left += 1
                        return
                reasons += [choice.finish_reason for choice in chunk.choices]
            assert reasons[-1], "a stream without an end"


def run_load(clients: int, minutes: float) -> dict[str, Any]:
    process, url = start_server()
    try:
        watched = psutil.Process(process.pid)
        load = Load(url, time.monotonic() + 60 * minutes)
        threads = [threading.Thread(target=load.run_client, args=(at,)) for at in range(clients)]
        for thread in threads:
            thread.start()
        memory = []
        while any(thread.is_alive() for thread in threads):
            time.sleep(2)
            memory.append(watched.memory_info().rss)
    finally:
        process.terminate()
        process.wait(30)
    quarter = max(1, len(memory) // 4)
    return {
        "clients": clients,
        "minutes": minutes,
        "answered": len(load.seconds),
        "left": load.left,
        "refused_503": load.refused,
        "errors": load.errors[:10],
        "lost": len(load.errors),
        "seconds_p50": round(statistics.median(load.seconds), 3),
        "seconds_p95": round(statistics.quantiles(load.seconds, n=20)[-1], 3),
        "first_token_p50": round(statistics.median(load.first_token), 3),
        "first_token_p95": round(statistics.quantiles(load.first_token, n=20)[-1], 3),
        "memory_mb_second_quarter": round(max(memory[quarter : 2 * quarter]) / 1e6),
        "memory_mb_last_quarter": round(max(memory[-quarter:]) / 1e6),
        "processors": os.cpu_count(),
    }


def run_overhead(rounds: int = 30) -> dict[str, Any]:
    """Compare the first token of further questions over HTTP with the engine's own."""
    import smolvideo
    from smolvideo.sampling import FrameSampling

    path = SAMPLES / "circle_right.mp4"
    own, served = [], []
    process, url = start_server()
    try:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with smolvideo.open("nano", str(path), sampling=FrameSampling()) as video:
            for place in range(rounds):  # in turns: both meet the same load of the machine
                question = QUESTIONS[place % len(QUESTIONS)]
                started = time.perf_counter()
                with video.stream(question) as answer:
                    next(iter(answer))
                own.append(time.perf_counter() - started)
                messages = asked(question, video_part(path))
                started = time.perf_counter()
                with client.chat.completions.create(
                    model="nano", messages=messages, stream=True
                ) as stream:
                    next(chunk for chunk in stream if chunk.choices[0].delta.content)
                served.append(time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(30)
    return {
        "engine_first_token_ms": round(1e3 * statistics.median(own[1:]), 1),
        "http_first_token_ms": round(1e3 * statistics.median(served[1:]), 1),
        "added_ms": round(1e3 * (statistics.median(served[1:]) - statistics.median(own[1:])), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--overhead", action="store_true", help="only the time that HTTP adds")
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    given = parser.parse_args()
    if given.overhead:
        figures = run_overhead()
        failed = figures["added_ms"] > 50
    else:
        figures = run_load(given.clients, given.minutes)
        grown = figures["memory_mb_last_quarter"] - figures["memory_mb_second_quarter"]
        failed = figures["lost"] > 0 or grown > 50
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if given.json is not None:
        found = json.loads(given.json.read_text()) if given.json.exists() else {}
        found["overhead" if given.overhead else "load"] = figures
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
