"""Parts of records: sources of an answer, and the hashes that a replay compares."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from smolvideo.json_types import Moment

if TYPE_CHECKING:  # numpy is not needed to read records
    import numpy as np
    from numpy.typing import NDArray

HASH_DIGITS = 32
"""Hex digits of a frame's hash: 128 bits, so that fifty of them are less than 2 kB."""


@dataclass(frozen=True)
class SourceRecord:
    """A source of an answer: the argument as typed, what it resolved to, and the frames' times.

    ``sha256`` is the hash of the file's bytes; for a folder of frames see ``content_hash``.
    ``reader`` is the reader used, ``explanation`` the sampling strategy's note on its selection.
    """

    given: str
    name: str
    kind: str
    sha256: str | None = None
    url: str | None = None
    frame_times: tuple[Moment, ...] = ()
    geometry: str | None = None
    reader: str | None = None
    explanation: str | None = None


@dataclass(frozen=True)
class RecordHashes:
    """Hashes of what an answer was computed from.

    ``frames`` are the first ``HASH_DIGITS`` hex digits of the SHA-256 of each image of the prompt
    as the model got it, in order; of a summary, of all images of each prompt together. ``prompt``
    is the SHA-256 of the token ids of all prompts with images, ``weights`` that of the weight
    files; None where a server has them.
    """

    frames: tuple[str, ...]
    prompt: str
    weights: str | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> "RecordHashes | None":
        """Parse the hashes in a record's JSON; TypeError or AttributeError if they are none."""
        if content is None:
            return None
        known = {name.name for name in fields(cls)}
        hashes = {key: value for key, value in content.items() if key in known}
        return cls(**hashes | {"frames": tuple(hashes.get("frames", ()))})


def hash_images(images: "NDArray[np.uint8]") -> str:
    """Return the hash of uint8 images [N, H, W, 3], or of one [H, W, 3], with their shape."""
    import numpy as np

    hashed = hashlib.sha256(repr(images.shape).encode())
    hashed.update(np.ascontiguousarray(images).data)
    return hashed.hexdigest()[:HASH_DIGITS]


def hash_token_ids(prompts: Iterable[Sequence[int]]) -> str:
    """Return the SHA-256 of the token ids of ``prompts``, in order."""
    hashed = hashlib.sha256()
    for token_ids in prompts:
        hashed.update(f"{','.join(map(str, token_ids))};".encode())
    return hashed.hexdigest()


def from_json(content: Mapping[str, Any]) -> SourceRecord:
    """Parse the source in a record's JSON; TypeError or AttributeError if it is none."""
    known = {name.name for name in fields(SourceRecord)}
    source = {key: value for key, value in content.items() if key in known}
    source["frame_times"] = tuple(source.get("frame_times", ()))
    return SourceRecord(**source)
