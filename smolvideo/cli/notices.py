"""``--verbose`` output of ``ask`` on stderr."""

from rich.text import Text

from smolvideo.engines import Engine, format_dtype
from smolvideo.pipeline import PreparedPrompt, effective_settings
from smolvideo.sanitize import escape_controls
from smolvideo.show.console import Output


def show_settings(screen: Output, prepared: PreparedPrompt, engine: Engine) -> None:
    """With ``--verbose``, show the effective settings and the prompt."""
    if not screen.verbose:
        return
    checkpoint = engine.checkpoint
    revision = f" at {checkpoint.revision[:12]}" if checkpoint.revision else ""
    settings = effective_settings(
        prepared.sampling, prepared.prompt_options, prepared.generation, prepared.reader
    )
    settings |= {"layout": prepared.prompt.layout, "geometry": prepared.prompt.geometry}
    lines = [
        f"model: {checkpoint.name}{revision}, {engine.name} on {engine.device} in "
        + format_dtype(engine.dtype, engine.quantize),
        "settings: " + ", ".join(f"{name}={value}" for name, value in settings.items()),
        f"prompt: {prepared.prompt.text}",
    ]
    for line in lines:
        screen.err.print(Text(escape_controls(line, allowed="\n\t"), "dim"), soft_wrap=True)
