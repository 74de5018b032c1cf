"""Choice table of ``--model auto``: cached models, free memory, chosen and offered models."""

from pathlib import Path

import pytest

from smolvideo.cost.choose import (
    MAX_FIRST_TOKEN_SECONDS,
    RANKING,
    Candidate,
    _cgroup_free_bytes,
    choose,
    offers,
)
from smolvideo.models import MODELS

GB = 1_000_000_000
MEMORY = {"smolvlm2-2.2b": 7.0, "smolvlm2-500m": 2.0, "smolvlm2-256m": 1.3}
SECONDS = {"smolvlm2-2.2b": 72.0, "smolvlm2-500m": 22.0, "smolvlm2-256m": 18.0}


def candidates(here: str, seconds: dict[str, float | None] | None = None) -> list[Candidate]:
    """Return candidates in reverse order; ``here`` are names without ``smolvlm2-``,
    blank-separated.
    """
    names = {name if name.startswith("smolvlm") else f"smolvlm2-{name}" for name in here.split()}
    known: dict[str, float | None] = {**SECONDS, **(seconds or {})}
    return [
        Candidate(
            name,
            name in names,
            round(MEMORY.get(name, 5.0 if "2.2b" in name else 1.5) * GB),
            known.get(name, 20.0),
        )
        for name in reversed(RANKING)
    ]


QUICK: dict[str, float | None] = {"smolvlm2-2.2b": 10.0}
SLOW: dict[str, float | None] = dict.fromkeys(RANKING, 300.0) | {"smolvlm2-256m": 200.0}
UNKNOWN: dict[str, float | None] = dict.fromkeys(RANKING)


@pytest.mark.parametrize(
    ("here", "free", "seconds", "chosen"),
    [
        ("", 16, None, None),
        ("256m", 16, None, "smolvlm2-256m"),
        ("256m 500m", 16, None, "smolvlm2-500m"),
        ("256m 500m 2.2b", 16, None, "smolvlm2-500m"),
        ("256m 500m 2.2b", 16, QUICK, "smolvlm2-2.2b"),
        ("256m 500m 2.2b", 6, QUICK, "smolvlm2-500m"),
        ("256m 500m 2.2b", 1.9, QUICK, "smolvlm2-256m"),
        ("256m 500m 2.2b", 1, QUICK, None),
        ("2.2b", 16, None, "smolvlm2-2.2b"),
        ("256m 500m 2.2b", 16, SLOW, "smolvlm2-256m"),
        ("500m 2.2b", 16, UNKNOWN, "smolvlm2-500m"),
        ("2.2b", 16, UNKNOWN, "smolvlm2-2.2b"),
        ("256m smolvlm-2.2b", 16, None, "smolvlm2-256m"),
        ("smolvlm-256m smolvlm-2.2b", 16, None, "smolvlm-2.2b"),
        ("smolvlm-2.2b-synthetic smolvlm-2.2b", 16, None, "smolvlm-2.2b"),
        ("smolvlm-256m smolvlm-500m", 16, None, "smolvlm-500m"),
    ],
)
def test_choice_is_the_best_cached_model_that_fits_and_is_fast(
    here: str, free: float, seconds: dict[str, float | None] | None, chosen: str | None
) -> None:
    found = choose(candidates(here, seconds), drawn=False, free_bytes=round(free * GB))
    assert (found and found.model) == chosen
    if found is not None:
        assert f"of {free:.1f} GB of free memory" in found.reason
    drawn = choose(candidates(here, seconds), drawn=True, free_bytes=round(free * GB))
    assert drawn is not None
    assert (drawn.model, "drawn" in drawn.reason) == ("nano", True)


@pytest.mark.parametrize(
    ("here", "free", "seconds", "offered"),
    [
        ("", 16, None, "500m 256m 2.2b"),
        ("", 16, QUICK, "2.2b 500m 256m"),
        ("", 16, SLOW, "256m 2.2b 500m"),
        ("", 16, UNKNOWN, "500m 256m 2.2b"),
        ("", 1.9, None, "256m"),
        ("", 1, None, ""),
        ("2.2b", 4, QUICK, "500m 256m"),
    ],
)
def test_offered_models_fit_and_begin_with_the_proposal(
    here: str, free: float, seconds: dict[str, float | None] | None, offered: str
) -> None:
    found = offers(candidates(here, seconds), round(free * GB))
    assert [one.name for one in found] == [f"smolvlm2-{name}" for name in offered.split()]


LIMITS = {
    "none": ("", {}, []),
    "of a container": ("0::/\n", {".": ("1000", 400, 100)}, [700]),
    "max": ("0::/\n", {".": ("max", 400, 100)}, []),
    "of a slice": ("0::/user/app\n", {"user": ("900", 400, 0), "user/app": ("max", 5, 0)}, [500]),
    "more is used": ("0::/a\n", {"a": ("100", 400, 0)}, [0]),
    "version 1": ("9:name=systemd:/\n4:cpu,memory:/a\n", {"memory/a": ("1000", 400, 150)}, [750]),
    "version 1, another view": ("4:memory:/else/where\n", {"memory": ("800", 0, 0)}, [800]),
    "odd": ("4\n::\nmemory\n0::/../..\n", {".": ("x", 0, 0)}, []),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits_of_control_groups(case: str, tmp_path: Path) -> None:
    groups, limits, left = LIMITS[case]
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for folder, (limit, used, reclaimable) in limits.items():
        group = tmp_path / "sys/fs/cgroup" / folder
        group.mkdir(parents=True, exist_ok=True)
        names = ("memory.max", "memory.current", "inactive_file")
        if "memory" in folder:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        (group / names[0]).write_text(f"{limit}\n")
        (group / names[1]).write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 5\n{names[2]} {reclaimable}\n")
    assert [*_cgroup_free_bytes(tmp_path)] == left


def test_every_published_instruct_checkpoint_is_ranked() -> None:
    bases = {name for name in MODELS if name.endswith("-base")}
    assert {*RANKING} == {*MODELS} - bases - {"nano"}
    assert MAX_FIRST_TOKEN_SECONDS == 60
