"""``docs/design.md`` has the layers of ``pyproject.toml`` and a line for every module.

``SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/project/test_design_page.py`` rewrites both.
"""

import ast
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

from support.project import ROOT

PACKAGE = ROOT / "smolvideo"
PAGE = ROOT / "docs" / "design.md"
COMMAND = ".venv/bin/python -m pytest tests/project/test_design_page.py"
MENDED_BY = (
    f"docs/design.md is not that of today; this mends it:\nSMOLVIDEO_UPDATE_GOLDEN=1 {COMMAND}"
)
LAYERS = "<!-- layers -->\n```\n"
FILES = f"<!-- generated from the docstrings: {COMMAND} -->\n"


def check(start: int, end: int, expected: str) -> None:
    text = PAGE.read_text("utf-8")
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        PAGE.write_text(text[:start] + expected + text[end:], encoding="utf-8")
        return
    assert text[start:end] == expected, MENDED_BY


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring on one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring, f"{path} needs a docstring"
    return " ".join(docstring.split("\n\n")[0].split()).replace("``", "`")


def packages() -> Iterator[tuple[str, list[Path]]]:
    """Return the folders of the package in order of their names, with their modules."""
    folders = sorted({path.parent for path in PACKAGE.rglob("*.py")})
    for folder in folders:
        yield folder.relative_to(ROOT).as_posix(), sorted(folder.glob("*.py"))


def test_every_module_has_a_line() -> None:
    lines = []
    for name, modules in packages():
        about = summary(modules[0]) if modules[0].name == "__init__.py" else ""
        lines += ["", f"### {name}/", "", about, ""] if about else ["", f"### {name}/", ""]
        lines += [
            f"- `{module.name}`: {summary(module)}"
            for module in modules
            if module.name != "__init__.py"
        ]
    text = PAGE.read_text("utf-8")
    check(text.index(FILES) + len(FILES), len(text), "\n".join(lines) + "\n")


def test_layers_equal_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    expected = "\n".join(layer.replace("smolvideo.", "") for layer in layers) + "\n"
    text = PAGE.read_text("utf-8")
    start = text.index(LAYERS) + len(LAYERS)
    check(start, text.index("```", start), expected)
