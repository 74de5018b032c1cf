"""Clips with new words, and nano prepared for tuning on them, once for all tests of the folder."""

from pathlib import Path

import pytest
from support.newwords import write_clips

from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.tune.items import Items, read_items
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.run import TuneRequest, open_folder, prepare_samples
from smolvideo.tune.samples import SampleSet


@pytest.fixture(scope="session")
def nano() -> Checkpoint:
    return open_checkpoint("nano")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"), clips=5, questions=3, size=48)


@pytest.fixture(scope="session")
def items(data: Path) -> Items:
    return read_items(data)


OPTIONS = TuneOptions(
    steps=4, batch_size=4, rank=4, dropout=0.1, eval_interval=2, held_out=0.3, max_frames=3
)


@pytest.fixture(scope="session")
def options() -> TuneOptions:
    return OPTIONS


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory, items: Items, nano: Checkpoint) -> SampleSet:
    request = TuneRequest(items, nano, OPTIONS, tmp_path_factory.mktemp("samples"))
    with open_folder(request) as facts:
        return prepare_samples(request, facts, lambda _: None)
