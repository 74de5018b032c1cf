"""Pinned versions per platform."""

import pytest
from packaging.requirements import Requirement
from support.project import ROOT


@pytest.mark.parametrize(
    ("system", "machine", "newest"),
    [
        ("linux", "aarch64", "2.10.0"),  # from 2.11 on that wheel is built for CUDA
        ("linux", "x86_64", "2.13.0"),
        ("darwin", "arm64", "2.13.0"),
        ("win32", "AMD64", "2.13.0"),
    ],
)
def test_one_torch_version_is_pinned_per_platform(system: str, machine: str, newest: str) -> None:
    platform = {"sys_platform": system, "platform_machine": machine}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.startswith("torch==")]
    found = [str(pin.specifier) for pin in pins if not pin.marker or pin.marker.evaluate(platform)]
    assert found == [f"=={newest}"]
