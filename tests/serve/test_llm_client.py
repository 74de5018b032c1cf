"""``llm`` as a second real client, by its configuration for OpenAI-compatible servers."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from support.apiserver import frames_as_jpeg, running_server

_MODELS = """\
- model_id: local-nano
  model_name: nano
  api_base: {url}/v1
  api_key_name: local
  vision: true
  supports_schema: true
"""


def test_llm_asks_about_frames_streams_and_gets_json(tmp_path: Path) -> None:
    frames = []
    for place, frame in enumerate(frames_as_jpeg(4)):
        path = tmp_path / f"frame{place}.jpg"
        path.write_bytes(base64.b64decode(frame))
        frames += ["--attachment", str(path)]

    def llm(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", "--model", "local-nano", *words, *frames, "--no-log"],
            env={**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with running_server(api_key="s3cret") as server:
        (tmp_path / "extra-openai-models.yaml").write_text(_MODELS.format(url=server.url))
        (tmp_path / "keys.json").write_text(json.dumps({"local": "s3cret"}))
        assert llm("What moves?") == "a purple circle"
        found = json.loads(llm("What moves?", "--schema", "moves bool"))
    assert isinstance(found["moves"], bool)
