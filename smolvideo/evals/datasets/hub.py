"""Download of a benchmark's files from the Hugging Face hub; some require consent and a login."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from smolvideo.errors import SourceError, UsageError
from smolvideo.progress import OnProgress, Progress, no_progress

_CINEPILE = "tomg-group-umd/cinepile"


class HubFilePattern(NamedTuple):
    """The files of a dataset's repository that match a regular expression."""

    repo_id: str
    pattern: str


HUB_FILES: dict[str, dict[str, HubFilePattern]] = {
    "cinepile": {
        "v2": HubFilePattern(_CINEPILE, r"v2/test-.*\.parquet"),
        "v1": HubFilePattern(_CINEPILE, r"(?!v2/)(?:.*/)?test-.*\.parquet"),
        "3.0": HubFilePattern("CinePile/cinepile-3.0_with_videoID", r"(?:.*/)?test-.*\.parquet"),
    },
    "video-mme": {"main": HubFilePattern("lmms-lab/Video-MME", r"videomme/test-.*\.parquet")},
    "mvbench": {"main": HubFilePattern("OpenGVLab/MVBench", r"json/[^/]*\.json")},
    "egoschema": {"main": HubFilePattern("lmms-lab/egoschema", r"Subset/test-.*\.parquet")},
}
"""Benchmark → version → its files; the first version is the default."""


def fetch_benchmark(
    name: str,
    version: str | None = None,
    *,
    offline: bool = False,
    on_progress: OnProgress = no_progress,
) -> Path:
    """Download a file, or a folder of several, into the hub's cache; the token is HF_TOKEN.

    Raises UsageError for an unknown version, SourceError if the files are not available.
    """
    versions = HUB_FILES[name]
    if version is not None and version not in versions:
        known = ", ".join(f"`{known}`" for known in versions)
        raise UsageError(f"`{name}` has no version `{version}`", hint=f"one of {known}")
    wanted = versions[version or next(iter(versions))]
    # The names of the files on the hub, then the files themselves.
    on_progress(Progress("download", label=wanted.repo_id))
    with _told_about(wanted.repo_id, offline=offline):
        from huggingface_hub import HfApi, snapshot_download

        if not offline:
            files = HfApi().list_repo_files(wanted.repo_id, repo_type="dataset")
            files = [file for file in files if re.fullmatch(wanted.pattern, file)]
            if not files:
                raise SourceError(
                    f"`{wanted.repo_id}` does not hold the files of `{name}` any more"
                )
        folder = Path(
            snapshot_download(
                wanted.repo_id,
                repo_type="dataset",
                allow_patterns=[] if offline else files,
                local_files_only=offline,
            )
        )
    # One file, or the folder of several.
    found = sorted(
        file
        for file in folder.rglob("*")
        if re.fullmatch(wanted.pattern, file.relative_to(folder).as_posix())
    )
    if not found:
        raise _not_here(wanted.repo_id)
    return found[0] if len(found) == 1 else found[0].parent


def _not_here(repo_id: str) -> SourceError:
    return SourceError(
        f"`{repo_id}` is not on this machine, and offline nothing is fetched",
        hint="name a local file instead",
    )


@contextmanager
def _told_about(repo_id: str, *, offline: bool) -> Iterator[None]:
    """Turn every error of the hub client into a SourceError with one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except SourceError:
        raise
    except GatedRepoError as error:
        raise SourceError(
            f"`{repo_id}` is gated: the hub asks for consent and a login",
            hint="accept its terms on its page and set HF_TOKEN, or name a local file",
        ) from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"the hub has no `{repo_id}` that may be read",
            hint="set HF_TOKEN if a login is needed, or name a local file",
        ) from error
    except LocalEntryNotFoundError as error:
        if offline:
            raise _not_here(repo_id) from error
        raise SourceError(f"cannot reach the hub for `{repo_id}`") from error
    except Exception as error:  # errors of the HTTP library have no common base across versions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"cannot download `{repo_id}`: {reason}") from error
