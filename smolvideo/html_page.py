"""Self-contained HTML pages from Jinja2 templates, with autoescaping and a content security policy.

Templates are in the package that uses them. Every value is escaped; an undefined name is an error.
The policy admits only the page's own script, by its hash; nothing is fetched.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from smolvideo.sanitize import display_name, escape_controls

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(package: str, template: str, **values: Any) -> str:
    """Render ``template``, a file of ``package``, with ``values``.

    In addition to Jinja's, templates have the filters ``shown`` (paragraphs, with control
    characters escaped) and ``name`` (on one line), and the functions ``style(file)`` and
    ``script(file)``, which return an element with the content of a file of the package;
    ``script_hash(file)`` is the script's hash for the policy. Raises jinja2.UndefinedError if a
    value is missing.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def own(name: str) -> str:
        return files(package).joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "ensure_ascii": True,  # also escapes line separators and lone surrogates
        "allow_nan": False,
        "separators": (",", ":"),
    }
    environment.filters["shown"] = lambda text: escape_controls(str(text), allowed="\n\t")
    environment.filters["name"] = lambda text: display_name(str(text))
    # The project's own files are trusted markup, not escaped.
    environment.globals["style"] = lambda name: Markup("<style>{}</style>").format(
        Markup(own(name))
    )
    environment.globals["script"] = lambda name: Markup("<script>{}</script>").format(
        Markup(own(name))
    )
    environment.globals["script_hash"] = lambda name: _hash(own(name))
    return environment


def _hash(script: str) -> str:
    """Return a script's hash as in a CSP: https://www.w3.org/TR/CSP3/#source-list-syntax"""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
