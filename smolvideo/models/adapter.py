"""LoRA adapters in peft's own format: configuration and tensor names, checked against a checkpoint.

    DIR/adapter_config.json         rank, scale, and what else peft can do, which is refused here
    DIR/adapter_model.safetensors   A [r, in] and B [out, r] of each adapted weight

An adapted weight is ``W + s·B·A`` with ``s = lora_alpha / r`` (LoRA, arXiv 2106.09685), or
``lora_alpha / √r`` (rsLoRA, arXiv 2312.03732). Rows of the embedding that were trained in full
(peft's ``trainable_token_indices``) replace those of the checkpoint. No peft is needed: the engines
add these updates while they load (``network.adapter_weights``).

A file that somebody else made is untrusted: every name must be that of a weight of the checkpoint,
every shape must match, and settings that change the computation are refused by name.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smolvideo.errors import ModelError
from smolvideo.json_types import parse_strict_json
from smolvideo.models.json_files import Json, read_json, shown
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.registry import lookup_model
from smolvideo.models.weights import count_parameters, expected_shapes, read_header

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
RUN_CHOICES = ("best", "last")
"""Folders of a tuning run that hold an adapter, in the order in which they are looked for."""

METADATA_KEY = "smolvideo"
"""Metadata of the weights, one JSON object: ``base_norms``, the fingerprint of the base, and
``words``, those of the data. One key, because safetensors writes several in random order."""

DECODER_PREFIXES = ("model.text_model.", "lm_head.")
"""Weights that frames never meet: an adapter of these alone shares frame features with its base."""

_PREFIX = "base_model.model."
_EMBEDDING = "model.text_model.embed_tokens"
_ROWS = ".token_adapter.trainable_tokens_delta"
_MAX_RANK = 4096
_DEFAULT_RANK = 8
"""``r`` of peft's LoraConfig."""
_MAX_ALPHA = 1e6
_FLOATS = ("F32", "BF16", "F16")

# Settings of peft 0.21 that change what is computed, with the values that change nothing.
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None,),
    "alpha_pattern": (None, {}),
    "arrow_config": (None,),
    "bias": (None, "none"),
    "fan_in_fan_out": (None, False),
    "kasa_config": (None,),
    "layer_replication": (None,),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "monteclora_config": (None,),
    "target_parameters": (None, []),
    "use_bdlora": (None, False),
    "use_dora": (None, False),
    "use_qalora": (None, False),
    "velora_config": (None,),
}
_CHANGES_BASE = ("corda", "loftq", "olora", "pissa")
"""Beginnings of ``init_lora_weights`` that subtract from the base weights."""


@dataclass(frozen=True)
class LowRankUpdate:
    """``scale``·B·A, added to one weight; ``a`` and ``b`` are names of tensors in the file."""

    a: str
    b: str
    scale: float


@dataclass(frozen=True)
class RowUpdate:
    """Rows ``token_ids`` of the embedding, replaced by the tensor ``rows`` of the file."""

    rows: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on this machine, checked against the configuration of its checkpoint.

    ``sha256`` identifies it in records: of scale and rows, and of the bytes of the weights.
    ``updates`` and ``rows`` are by the name of the checkpoint's weight. ``base`` is the name of the
    checkpoint that it was trained on, if its configuration has one.
    """

    folder: Path
    sha256: str
    updates: Mapping[str, LowRankUpdate] = field(repr=False)
    rows: Mapping[str, RowUpdate] = field(repr=False)
    base: str | None = None
    words: frozenset[str] = field(default=frozenset(), repr=False)
    """Words of the training data, in lower case: what nano knows since."""
    norms_sha256: str | None = field(default=None, repr=False)
    """Fingerprint of the base checkpoint, from the metadata of the weights: see
    ``network.adapter_weights.norms_fingerprint``. None in adapters of other programs."""

    @property
    def weights_file(self) -> Path:
        return self.folder / WEIGHTS_FILE

    @property
    def changes_features(self) -> bool:
        """Whether vision tower or connector are adapted, so that frames are encoded anew."""
        return not all(name.startswith(DECODER_PREFIXES) for name in self.updates)

    def __hash__(self) -> int:
        return hash(self.sha256)


def find_adapter(path: Path) -> Path:
    """Return the folder with the adapter: ``path``, or the best, else last one of a tuning run.

    Raises ModelError where there is none.
    """
    try:
        folders = [path, *(path / choice for choice in RUN_CHOICES)]
        found = next((one for one in folders if (one / CONFIG_FILE).is_file()), None)
        if found is not None:
            return found
        is_file, is_dir = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:  # too long, a null byte
        raise ModelError(f"cannot read the adapter `{str(path)[:80]}`: {error}") from error
    if is_file:
        hint = f"name the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        raise ModelError(f"`{path}` is a file; an adapter is a folder", hint=hint)
    if is_dir:
        hint = "an adapter is written by `smolvideo tune`, or by peft's `save_pretrained`"
        if (path / "config.json").is_file():
            hint = f"that is a whole checkpoint: `--model {path}`"
        raise ModelError(f"no `{CONFIG_FILE}` in `{path}`: it holds no adapter", hint=hint)
    raise ModelError(f"no adapter folder `{path}`")


def adapter_base(path: Path) -> str | None:
    """Return the registered name of the checkpoint that the adapter at ``path`` was trained on.

    None where its configuration names none, or one that is not registered: a name in a file may
    not choose what is downloaded. Raises ModelError where the adapter is missing or broken.
    """
    named = read_json(find_adapter(path) / CONFIG_FILE).get("base_model_name_or_path")
    spec = lookup_model(named) if isinstance(named, str) else None
    return None if spec is None else spec.name


def base_of_adapter(path: Path) -> str:
    """Return ``adapter_base``; ModelError where it is unknown."""
    base = adapter_base(path)
    if base is None:
        raise ModelError(
            f"the adapter `{path}` names no published checkpoint that it was trained on",
            hint="name the checkpoint with `--model`",
        )
    return base


def read_adapter(path: Path, config: NetworkConfig, *, checkpoint_name: str) -> Adapter:
    """Read and check the adapter in ``path`` for a checkpoint of ``config``.

    Raises ModelError where a file is missing or broken, where the adapter does something that is
    not supported, and where it belongs to another checkpoint.
    """
    folder = find_adapter(path)
    settings = read_json(folder / CONFIG_FILE)
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        hint = "only safetensors are read" if any(folder.glob("*.bin")) else None
        raise ModelError(f"broken adapter: no `{WEIGHTS_FILE}` in `{folder}`", hint=hint)
    _check_supported(settings, folder)
    base = settings.get("base_model_name_or_path")
    base = base if isinstance(base, str) else None
    _check_base(base, checkpoint_name, folder)
    header = read_header(file)
    about = _metadata(header.metadata.get(METADATA_KEY), folder)
    count_parameters(file)  # for its checks
    shapes = expected_shapes(config)
    updates = _low_rank_updates(header.tensors, settings, shapes, folder)
    rows = _row_updates(header.tensors, settings, shapes, folder)
    if not updates and not rows:
        raise _broken(folder, "it adapts no weight of this network")
    return Adapter(
        folder=folder,
        sha256=_digest(file, updates, rows),
        updates=updates,
        rows=rows,
        base=base,
        words=frozenset(str(about.get("words", "")).split()),
        norms_sha256=about.get("base_norms"),
    )


def _metadata(text: str | None, folder: Path) -> Json:
    if text is None:
        return {}
    try:
        about = parse_strict_json(text)
    except ValueError as error:
        raise _broken(folder, f"its metadata is not valid JSON: {error}") from error
    if not isinstance(about, dict) or not all(isinstance(one, str) for one in about.values()):
        raise _broken(folder, "its metadata holds more than texts")
    return about


def _broken(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"broken adapter `{folder}`: {what}", hint="take the adapter's files as they were written"
    )


def _check_supported(settings: Json, folder: Path) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"`{folder}` is an adapter of type {shown(kind)}; only LORA is read")
    for name, harmless in _UNSUPPORTED.items():
        if settings.get(name) not in harmless:
            raise ModelError(
                f"the adapter `{folder}` has `{name}` {shown(settings[name])}, which is not "
                "supported",
                hint="merge it with peft, and name the merged folder with `--model`",
            )
    begun = settings.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"the adapter `{folder}` was begun as {shown(begun)}, which changes the base weights",
            hint="merge it with peft, and name the merged folder with `--model`",
        )


def _check_base(base: str | None, checkpoint_name: str, folder: Path) -> None:
    """Raise ModelError where adapter and checkpoint are two different published ones."""
    trained, used = lookup_model(base or ""), lookup_model(checkpoint_name)
    if trained is not None and used is not None and trained != used:
        raise ModelError(
            f"the adapter `{folder}` was trained on `{trained.name}`, not on `{used.name}`",
            hint=f"`--model {trained.name}`",
        )


def _low_rank_updates(
    tensors: Mapping[str, Json], settings: Json, shapes: Mapping[str, list[int]], folder: Path
) -> dict[str, LowRankUpdate]:
    alpha = settings.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < _MAX_ALPHA:
        raise _broken(folder, f"`lora_alpha` is {shown(alpha)}")
    updates, ranks = {}, _configured_ranks(settings, folder)
    for name in tensors:
        if name.endswith(_ROWS):
            continue
        module, mark, _ = name.removesuffix(".weight").rpartition(".lora_")
        weight = f"{module.removeprefix(_PREFIX)}.weight"
        if not name.startswith(_PREFIX) or not mark or weight not in shapes:
            raise _broken(folder, f"`{name[:120]}` belongs to no weight of this network")
        a, b = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
        if name not in (a, b) or a not in tensors or b not in tensors:
            raise _broken(folder, f"`{module[:120]}` has not both of A and B")
        rank = _rank(tensors[a], tensors[b], shapes[weight])
        if rank is None:
            raise _broken(
                folder,
                f"`{weight}` of this network has the shape {shapes[weight]}, and A and B have "
                f"{shown(tensors[a].get('shape'))} and {shown(tensors[b].get('shape'))}",
            )
        if rank not in ranks:
            said = f"`{CONFIG_FILE}` has `r` {shown(settings.get('r'))}"
            raise _broken(folder, f"A and B of `{weight}` have the rank {rank}, and {said}")
        divisor = math.sqrt(rank) if settings.get("use_rslora") else rank
        updates[weight] = LowRankUpdate(a, b, alpha / divisor)
    return updates


def _configured_ranks(settings: Json, folder: Path) -> set[int]:
    """Return ``r`` and the ranks of ``rank_pattern``, whose patterns are not evaluated: a regular
    expression of a stranger may take for ever. The rank decides the scale, so a configuration of
    other weights would give other answers without an error."""
    if not isinstance(settings.get("use_rslora") or False, bool):
        raise _broken(folder, f"`use_rslora` is {shown(settings['use_rslora'])}")
    rank, patterns = settings.get("r", _DEFAULT_RANK), settings.get("rank_pattern") or {}
    ranks = [rank, *patterns.values()] if isinstance(patterns, dict) else [patterns]
    for one in ranks:
        if type(one) is not int or not 0 < one <= _MAX_RANK:
            raise _broken(folder, f"its rank `r` is {shown(one)}")
    return set(ranks)


def _rank(a: Json, b: Json, shape: list[int]) -> int | None:
    """Return r of A [r, in] and B [out, r]; None where they do not fit a weight of ``shape``."""
    if len(shape) != 2 or a.get("dtype") not in _FLOATS or b.get("dtype") not in _FLOATS:
        return None
    rows, rank = a.get("shape"), b.get("shape")
    if not (isinstance(rows, list) and isinstance(rank, list) and len(rows) == len(rank) == 2):
        return None
    fits = rows[1] == shape[1] and rank[0] == shape[0] and rows[0] == rank[1]
    return int(rows[0]) if fits and 0 < rows[0] <= _MAX_RANK else None


def _row_updates(
    tensors: Mapping[str, Json], settings: Json, shapes: Mapping[str, list[int]], folder: Path
) -> dict[str, RowUpdate]:
    named = [name for name in tensors if name.endswith(_ROWS)]
    listed = settings.get("trainable_token_indices")
    if not named and not listed:
        return {}
    if isinstance(listed, dict) and len(listed) == 1:
        listed = next(iter(listed.values()))
    name, weight = f"{_PREFIX}{_EMBEDDING}{_ROWS}", f"{_EMBEDDING}.weight"
    vocabulary, width = shapes[weight]
    ids = listed if isinstance(listed, list) else []
    if named != [name] or not all(type(one) is int and 0 <= one < vocabulary for one in ids):
        raise _broken(folder, "its trained tokens are not rows of this network's embedding")
    if tensors[name].get("shape") != [len(ids), width] or len(set(ids)) < len(ids):
        raise _broken(folder, f"it lists {len(ids)} trained tokens and holds others")
    return {weight: RowUpdate(name, tuple(ids))}


def _digest(file: Path, updates: Mapping[str, LowRankUpdate], rows: Mapping[str, RowUpdate]) -> str:
    """SHA-256 of all that changes answers: scales, trained rows and the bytes of the weights."""
    facts = {
        "scales": sorted((name, update.scale) for name, update in updates.items()),
        "rows": sorted((name, list(update.token_ids)) for name, update in rows.items()),
    }
    total = hashlib.sha256(json.dumps(facts).encode())
    try:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise ModelError(f"cannot read `{file}`: {error.strerror or error}") from error
    return total.hexdigest()
