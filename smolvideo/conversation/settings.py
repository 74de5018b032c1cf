"""Model and options of a conversation, and their JSON form."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from smolvideo.engines import EngineSpec, GenerationOptions
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.json_types import upgrade_engine
from smolvideo.prompt import PromptOptions
from smolvideo.sampling import FrameSampling, RelativeTime, parse_time

Options = TypeVar("Options", FrameSampling, PromptOptions, GenerationOptions)


@dataclass(frozen=True)
class Settings:
    """Settings of all questions of a conversation; names as on the command line."""

    model: str
    revision: str | None = None
    engine: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = "none"
    offline: bool = False
    reader: str = "auto"
    sampling: FrameSampling = field(default_factory=FrameSampling)
    prompt_options: PromptOptions = field(default_factory=PromptOptions)
    generation: GenerationOptions = field(default_factory=GenerationOptions)

    @property
    def spec(self) -> EngineSpec:
        """The engine part of the settings."""
        return EngineSpec(**{part.name: getattr(self, part.name) for part in fields(EngineSpec)})


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Convert to JSON types for the event log, without ``offline``, which concerns one run."""
    content = asdict(settings)
    del content["offline"]
    return content | {"sampling": sampling_to_json(settings.sampling)}


def settings_from_json(content: Mapping[str, Any]) -> Settings:
    """Parse the output of ``settings_to_json``. Raises RecordError for invalid values."""
    known = {option.name for option in fields(Settings)}
    kept = {name: value for name, value in upgrade_engine(content).items() if name in known}
    try:
        kept["sampling"] = sampling_from_json(kept.get("sampling", {}))
        kept["prompt_options"] = _options(PromptOptions, kept.get("prompt_options", {}))
        generation = dict(kept.get("generation", {}))
        generation["stop"] = tuple(generation.get("stop", ()))
        kept["generation"] = _options(GenerationOptions, generation)
        for name in ("model", "engine", "device", "dtype", "quantize", "reader"):
            if not isinstance(kept.get(name, ""), str):
                raise TypeError(name)
        return Settings(**kept)
    except (TypeError, ValueError, AttributeError, SmolVideoError) as error:
        raise RecordError(f"the settings of the conversation are damaged: {error}") from error


def sampling_to_json(sampling: FrameSampling) -> dict[str, Any]:
    """Convert to JSON types; relative times are written as ``50%``."""
    content = asdict(sampling)
    for name in ("start_seconds", "end_seconds"):
        if isinstance(getattr(sampling, name), RelativeTime):
            content[name] = str(getattr(sampling, name))
    return content


def sampling_from_json(content: Mapping[str, Any]) -> FrameSampling:
    """Parse the output of ``sampling_to_json``. Raises ValueError or UsageError."""
    read = dict(content)
    for name in ("start_seconds", "end_seconds"):
        if isinstance(read.get(name), str):
            read[name] = parse_time(read[name])
    return _options(FrameSampling, read)


def _options(kind: type[Options], content: Mapping[str, Any]) -> Options:
    known = {option.name for option in fields(kind)}
    return kind(**{name: value for name, value in content.items() if name in known})
