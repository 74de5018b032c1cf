"""With ``--verbose``: what is worth saying on stderr besides the answer."""

from rich.text import Text

from smolvideo.engines import Engine, told_format
from smolvideo.pipeline import Prepared, settings_in_effect
from smolvideo.safe_text import visible
from smolvideo.show.console import Screen


def show_settings(screen: Screen, prepared: Prepared, engine: Engine) -> None:
    """With ``--verbose``: what is really used, defaults and reductions included."""
    if not screen.verbose:
        return
    checkpoint = engine.checkpoint
    revision = f" at {checkpoint.revision[:12]}" if checkpoint.revision else ""
    settings = settings_in_effect(
        prepared.sampling, prepared.prompt_options, prepared.generation, prepared.reader
    )
    settings |= {"layout": prepared.prompt.layout, "geometry": prepared.prompt.geometry}
    lines = [
        f"model: {checkpoint.name}{revision}, {engine.name} on {engine.device} in "
        + told_format(engine.dtype, engine.quantise),
        "settings: " + ", ".join(f"{name}={value}" for name, value in settings.items()),
        f"prompt: {prepared.prompt.text}",
    ]
    for line in lines:
        screen.err.print(Text(visible(line, keep="\n\t"), "dim"), soft_wrap=True)
