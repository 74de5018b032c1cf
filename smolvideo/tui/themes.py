"""Dark and light Textual themes."""

from textual.theme import Theme

DARK = Theme(
    name="smolvideo-dark",
    dark=True,
    primary="#f0b35b",
    secondary="#7aa2f7",
    accent="#7dcfff",
    foreground="#d6d9e0",
    background="#0e1015",
    surface="#151820",
    panel="#1d212b",
    success="#9ece6a",
    warning="#e0af68",
    error="#f7768e",
)
LIGHT = Theme(
    name="smolvideo-light",
    dark=False,
    primary="#a8570f",
    secondary="#3056b5",
    accent="#0b6bab",
    foreground="#24262b",
    background="#fbfaf6",
    surface="#f3f1ea",
    panel="#e7e4da",
    success="#3f7d20",
    warning="#9a6700",
    error="#c0283d",
)
THEMES = {"dark": DARK, "light": LIGHT}
