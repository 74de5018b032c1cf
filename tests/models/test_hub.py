"""Downloads of checkpoints from a server on loopback with the hub's protocol."""

import errno
import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.hub_server import COMMIT, HubServer, serve_hub
from support.toy_checkpoint import write_toy_checkpoint

from smolvideo.errors import ModelError
from smolvideo.files import file_lock
from smolvideo.models import (
    Checkpoint,
    check_room_for,
    checkpoint_size_bytes,
    list_local,
    open_checkpoint,
    plan_removal,
    pull,
)
from smolvideo.models.local_cache import hub_cache, repository_folder
from smolvideo.progress import Progress


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serve_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        repository = write_toy_checkpoint(tmp_path / "repository")
        (repository / "evil.py").write_text("raise SystemExit")
        (repository / "pytorch_model.bin").write_bytes(b"pickle")
        (repository / "onnx").mkdir()
        shutil.copy(repository / "model.safetensors", repository / "onnx")
        server.repositories["HuggingFaceTB/SmolVLM2-256M-Video-Instruct"] = repository
        server.repositories["someone/fine-tune"] = repository
        yield server


def test_checkpoint_is_downloaded_once(hub: HubServer) -> None:
    steps: list[Progress] = []
    checkpoint = open_checkpoint("smolvlm2-256m", on_progress=steps.append)
    assert (checkpoint.name, checkpoint.revision, checkpoint.tokens_per_image) == (
        "smolvlm2-256m",
        COMMIT,
        4,
    )
    assert sorted(hub.files()) == [
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ]
    assert not (checkpoint.folder / "onnx").exists()
    assert steps
    assert {step.stage for step in steps} == {"download"}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == steps[-1].total == checkpoint_size_bytes(checkpoint)
    asked = len(hub.requests)
    again = open_checkpoint("smolvlm2-256m", on_progress=steps.append)
    assert again == checkpoint
    assert len(hub.requests) == asked  # a cached snapshot is used without a request


def test_offline_uses_only_the_cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="`smolvlm2-256m` is not on this machine") as caught:
        open_checkpoint("smolvlm2-256m", offline=True)
    assert "`smolvideo models pull smolvlm2-256m`" in str(caught.value.hint)
    assert "--model nano" in str(caught.value.hint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="not on this machine"):
        open_checkpoint("someone/fine-tune")
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    pull("smolvlm2-256m")
    asked = len(hub.requests)
    assert open_checkpoint("smolvlm2-256m", offline=True).revision == COMMIT
    assert len(hub.requests) == asked


def test_configuration_can_be_downloaded_before_the_weights(hub: HubServer) -> None:
    assert open_checkpoint("someone/fine-tune", weights=False).weights is None
    assert "model.safetensors" not in hub.files()
    with pytest.raises(ModelError, match="not on this machine"):
        open_checkpoint("someone/fine-tune", offline=True)
    assert open_checkpoint("someone/fine-tune").weights is not None
    assert hub.files().count("model.safetensors") == 1
    assert hub.files().count("tokenizer.json") == 1


def test_token_is_sent(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    open_checkpoint("someone/fine-tune", weights=False)
    assert hub.authorizations == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        (404, "neither a folder here nor a model on the hub", "HF_TOKEN"),
        (401, "the hub refused to hand out", "HF_TOKEN"),
        (403, "is gated", "HF_TOKEN"),
        (500, "cannot download `some/thing`: HTTP 500", "--model nano"),
    ],
)
def test_hub_errors_are_model_errors(
    hub: HubServer, status: int, said: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["some/thing"] = status
    with pytest.raises(ModelError) as caught:
        open_checkpoint("some/thing")
    assert said in str(caught.value)
    assert hint in str(caught.value.hint)
    assert "\n" not in str(caught.value)


def test_unknown_revision_is_an_error(hub: HubServer) -> None:
    with pytest.raises(ModelError, match="has no revision `v9`"):
        open_checkpoint("someone/fine-tune", revision="v9")


def test_unreachable_hub_is_an_error(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        open_checkpoint("smolvlm2-500m")
    assert str(caught.value) == (
        "cannot download `smolvlm2-500m`: there is no connection to http://127.0.0.1:9 "
        "(HF_ENDPOINT)"
    )
    assert caught.value.hint == "check the network; `--model nano` needs no download"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    pull("smolvlm2-256m")
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    with pytest.raises(ModelError, match="there is no connection to") as caught:
        open_checkpoint("smolvlm2-500m")
    assert caught.value.hint == "check the network; `--model smolvlm2-256m` needs no download"


def test_full_disk_is_an_error_before_the_download(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = hub.repositories["someone/fine-tune"]
    assert isinstance(repository, Path)
    needed = (repository / "model.safetensors").stat().st_size
    free = needed // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(ModelError, match=r"no room for `someone/fine-tune`: \d+ kB") as caught:
        open_checkpoint("someone/fine-tune")
    assert "HF_HOME" in str(caught.value.hint)
    assert hub.files() == []
    assert capsys.readouterr().err == ""
    free = 1_000_000
    assert open_checkpoint("someone/fine-tune").revision == COMMIT


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "another disk"), (errno.EACCES, "must be writable")]
)
def test_write_errors_are_model_errors(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    with pytest.raises(ModelError, match="cannot store `someone/fine-tune` in `") as caught:
        open_checkpoint("someone/fine-tune")
    assert os.strerror(number).lower() in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert hint in str(caught.value.hint)


def test_interrupt_does_not_wait_for_the_download(hub: HubServer) -> None:
    """The server holds the weights back until the interrupt has been raised."""
    hub.rest_of_weights = threading.Event()

    def interrupt() -> None:
        hub.began.wait(300)
        signal.raise_signal(signal.SIGINT)

    caller = threading.Thread(target=interrupt)
    caller.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            open_checkpoint("someone/fine-tune")
        assert not hub.rest_of_weights.is_set()
    finally:
        hub.rest_of_weights.set()
        caller.join()
    assert not list_local() or list_local()[0].problem, "nothing half done is taken for whole"


def test_repository_without_weights_is_an_error(hub: HubServer) -> None:
    folder = hub.repositories["someone/fine-tune"]
    assert isinstance(folder, Path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no `model\.safetensors`"):
        open_checkpoint("someone/fine-tune")


def test_pull_and_list(hub: HubServer) -> None:
    assert list_local() == []
    pull("someone/fine-tune")
    pull("SmolVLM2-256M")
    open_checkpoint("someone/fine-tune")
    names = [(local.name, local.problem) for local in list_local()]
    assert names == [("smolvlm2-256m", None), ("someone/fine-tune", None)]
    broken = list_local()[0].folder / "model.safetensors"
    broken.unlink()
    assert "no `model.safetensors`" in str(list_local()[0].problem)


def test_invalid_pulls_are_errors(hub: HubServer) -> None:
    with pytest.raises(ModelError, match="nothing to download"):
        pull("nano")
    with pytest.raises(ModelError, match="unknown model `smolvlm3`"):
        pull("smolvlm3")


def test_broken_download_is_resumed(hub: HubServer) -> None:
    checkpoint = pull("someone/fine-tune")
    weights = checkpoint.folder / "model.safetensors"
    blob = weights.resolve()
    whole = blob.read_bytes()
    weights.unlink()
    blob.unlink()
    assert open_checkpoint("someone/fine-tune") == checkpoint
    assert weights.read_bytes() == whole
    assert hub.files().count("model.safetensors") == 2
    assert hub.files().count("tokenizer.json") == 1


def _weights_of(hub: HubServer) -> bytes:
    repository = hub.repositories["someone/fine-tune"]
    assert isinstance(repository, Path)
    return (repository / "model.safetensors").read_bytes()


def _partial(hub: HubServer, content: bytes) -> Path:
    """Write the part of the weights that a killed download leaves."""
    digest = hashlib.sha256(_weights_of(hub)).hexdigest()
    blobs = repository_folder("someone/fine-tune") / "blobs"
    blobs.mkdir(parents=True)
    part = blobs / f"{digest}.smolvideo.incomplete"
    part.write_bytes(content)
    return part


def test_resume_requests_only_the_missing_bytes(hub: HubServer) -> None:
    whole = _weights_of(hub)
    part = _partial(hub, whole[:70])
    steps: list[Progress] = []
    checkpoint = pull("someone/fine-tune", on_progress=steps.append)
    assert (checkpoint.folder / "model.safetensors").read_bytes() == whole
    assert hub.sent["model.safetensors"] == [len(whole) - 70]
    assert not part.exists()
    assert steps[-1].done == steps[-1].total


def test_broken_connection_is_retried(hub: HubServer) -> None:
    whole = _weights_of(hub)
    hub.cut_after = 90
    steps: list[Progress] = []
    checkpoint = pull("someone/fine-tune", on_progress=steps.append)
    assert (checkpoint.folder / "model.safetensors").read_bytes() == whole
    assert hub.sent["model.safetensors"] == [90, len(whole) - 90]
    assert "someone/fine-tune: connection lost, trying again" in {step.label for step in steps}


@pytest.mark.parametrize("size", [70, None, 10_000])
def test_wrong_partial_content_is_detected(hub: HubServer, size: int | None) -> None:
    """A part, all, and more than all bytes, each of another file."""
    whole = _weights_of(hub)
    part = _partial(hub, b"x" * (len(whole) if size is None else size))
    if size == 10_000:  # longer than this file
        assert pull("someone/fine-tune").weights is not None
        return
    with pytest.raises(ModelError, match="its SHA-256 is not the one that the hub states"):
        pull("someone/fine-tune")
    assert not part.exists()
    assert pull("someone/fine-tune").weights is not None


def test_server_without_ranges_sends_all_again(hub: HubServer) -> None:
    whole = _weights_of(hub)
    _partial(hub, whole[:70])
    hub.with_ranges = False
    checkpoint = pull("someone/fine-tune")
    assert (checkpoint.folder / "model.safetensors").read_bytes() == whole


def test_blob_download_of_another_process_is_awaited(hub: HubServer) -> None:
    part = _partial(hub, b"")
    blob = part.with_name(part.name.removesuffix(".smolvideo.incomplete"))
    locks = hub_cache() / ".locks" / blob.parent.parent.name
    locks.mkdir(parents=True)
    waited = threading.Event()

    def on_progress(step: Progress) -> None:
        if "another process" in step.label:
            waited.set()

    outcome: list[Checkpoint] = []
    with file_lock(locks / f"{blob.name}.lock", on_contention=None):
        caller = threading.Thread(
            target=lambda: outcome.append(pull("someone/fine-tune", on_progress=on_progress))
        )
        caller.start()
        assert waited.wait(300)
        blob.write_bytes(_weights_of(hub))
    caller.join()
    assert outcome[0].weights is not None
    assert "model.safetensors" not in hub.files()


def test_disk_space_for_several_models_is_checked_together(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["smolvlm2-256m", "someone/fine-tune", "some/thing"]
    repository = hub.repositories["someone/fine-tune"]
    assert isinstance(repository, Path)
    one = sum(file.stat().st_size for file in repository.iterdir() if file.is_file())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * one // 2))
    check_room_for(names[1:])
    with pytest.raises(ModelError, match="no room for `smolvlm2-256m`, `someone/fine-tune`"):
        check_room_for(names)
    assert hub.files() == []


def test_shared_blobs_are_deleted_with_the_last_revision(hub: HubServer) -> None:
    folder = pull("someone/fine-tune").folder
    newer = folder.with_name("f" * 40)
    newer.mkdir()
    for link in folder.iterdir():
        if link.name != "generation_config.json":
            (newer / link.name).symlink_to(os.readlink(link))
    weights = (newer / "model.safetensors").resolve()
    own = (folder / "generation_config.json").resolve()
    removal = plan_removal("someone/fine-tune", revision=COMMIT)
    assert removal.freed_bytes == own.stat().st_size
    removal.execute()
    assert weights.is_file()
    assert not own.exists()
    assert not folder.exists()
    pull("smolvlm2-256m")  # with the same hash as in the deleted revision
    plan_removal("someone/fine-tune").execute()
    assert [local.name for local in list_local()] == ["smolvlm2-256m"]
    assert not weights.exists()


def test_only_cached_models_are_deleted(hub: HubServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    pull("someone/fine-tune").folder.parents[1].rename(elsewhere)
    repository_folder("someone/fine-tune").symlink_to(elsewhere)
    for name in ("someone/fine-tune", "../..", "someone/..", "a/b/../../../c"):
        with pytest.raises(ModelError):
            plan_removal(name)
    assert (elsewhere / "refs" / "main").is_file()


def test_partial_downloads_are_deleted(hub: HubServer) -> None:
    part = _partial(hub, b"x" * 70)
    removal = plan_removal("someone/fine-tune")
    assert removal.freed_bytes == 70
    removal.execute()
    assert not part.parent.parent.exists()
