"""Training that loses a process, the disk or a saved state: one error, and atomic files."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from smolvideo.errors import ModelError, RecordError, UsageError
from smolvideo.train import data_parallel
from smolvideo.train.data_parallel import (
    all_reduce_mean,
    load_state,
    processes_that_fit,
    save_state,
    spawn,
)
from smolvideo.train.nano import Trainer
from smolvideo.train.schedule import TrainOptions

posix = pytest.mark.skipif(os.name == "nt", reason="no signals and limits of that kind there")


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Limit file size to 64 kB, which acts like a full disk."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@posix
def test_full_disk_leaves_the_last_state(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "state.pt"
    save_state({"weights": torch.ones(10)}, path)
    request.getfixturevalue("small_disk")
    with pytest.raises(RecordError, match=r"cannot write `.*state.pt`") as raised:
        save_state({"weights": torch.rand(10**6)}, path)
    assert "goes on from the last state" in str(raised.value.hint)
    assert torch.equal(load_state(path)["weights"], torch.ones(10))
    assert [one.name for one in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02c__builtin__\neval\n.", None])
def test_damaged_state_is_one_error(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RecordError, match="no state of a training"):
        load_state(tmp_path / "state.pt")


@posix
def test_best_weights_are_written_atomically(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    trainer = Trainer(tmp_path, TrainOptions(minutes=10, examine_videos=3), 0, 1, lambda _: None)
    trainer._begin("answer")
    trainer._save_if_best({"all": 0.5, "colour": 0.5})
    before = (tmp_path / "best.pt").read_bytes()
    request.getfixturevalue("small_disk")
    with pytest.raises(RecordError, match=r"best\.pt"):
        trainer._save_if_best({"all": 0.9, "colour": 0.9})
    assert (tmp_path / "best.pt").read_bytes() == before
    save_state({"seed": 0, "course": {"stage": "x", "other": 1}}, tmp_path / "state.pt")
    with pytest.raises(RecordError, match="does not fit this training"):
        Trainer(tmp_path, TrainOptions(minutes=10), 0, 1, lambda _: None)


def _die(how: str, rank: int, ranks: int) -> None:
    """Work in which rank 1 ends before the gradients are averaged."""
    if rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no such picture")
    all_reduce_mean([torch.ones(3)], ranks)


@posix
@pytest.mark.parametrize(
    ("how", "why"),
    [("killed", "the system killed it, perhaps for lack of memory"), ("raised", "no such picture")],
)
def test_lost_process_is_an_error(how: str, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=f"was lost: {why}"):
        spawn(partial(_die, how), 2)
    assert "Traceback" not in capfd.readouterr().err


class DiesWhenUnpacked:
    """Work whose unpickling ends its process before the work begins."""

    def __call__(self, rank: int, ranks: int) -> None:
        raise AssertionError("the others never meet")

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_process_lost_before_the_rendezvous_is_an_error() -> None:
    with pytest.raises(ModelError, match="a process of the training was lost"):
        spawn(DiesWhenUnpacked(), 2)


@posix
def test_rendezvous_listens_on_the_loopback_interface_only() -> None:
    store, port = data_parallel._listening_store()
    own = [one for one in psutil.Process().net_connections("tcp") if one.status == "LISTEN"]
    assert [one.laddr.ip for one in own if one.laddr.port == port] == ["127.0.0.1"]
    store.set("key", "value")
    assert store.get("key") == b"value"


def test_number_of_processes_is_limited_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(cores: int, gigabytes: float) -> None:
        memory = psutil.virtual_memory()._replace(available=int(gigabytes * 1e9))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        monkeypatch.setattr(data_parallel, "available_cores", lambda: cores)

    monkeypatch.setattr(data_parallel, "cpu_has_bf16", lambda: False)
    machine(8, 9.0)
    assert processes_that_fit(None) == 2
    monkeypatch.setattr(data_parallel, "cpu_has_bf16", lambda: True)
    machine(8, 5.0)
    assert processes_that_fit(None) == 2
    assert processes_that_fit(2) == 2
    with pytest.raises(UsageError, match=r"4 processes need 8 GB of memory, and 5.0 are free") as e:
        processes_that_fit(4)
    assert e.value.hint == "`--processes 2`"
    with pytest.raises(UsageError, match="9 processes cannot work side by side on 8 cores"):
        processes_that_fit(9)
    machine(8, 1.0)
    with pytest.raises(UsageError, match="1 processes need 2 GB"):
        processes_that_fit(None)


def _average(folder: Path, rank: int, ranks: int) -> None:
    (mean,) = all_reduce_mean([torch.full((3,), float(rank))], ranks)
    (folder / str(rank)).write_text(str(mean.tolist()), encoding="utf-8")


def test_all_reduce_mean_averages_over_processes(tmp_path: Path) -> None:
    spawn(partial(_average, tmp_path), 2)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["[0.5, 0.5, 0.5]"] * 2
