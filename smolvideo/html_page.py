"""Pages of html from templates: one file each, everything in it, nothing fetched.

Templates are Jinja2's and lie in the package that uses them. Every value is escaped by itself; a
name that a template knows and no caller gives is an error. The page's own script runs, and no
other: its hash stands in the page's content security policy.
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
    """The page that ``template``, a file of ``package``, makes of ``values``.

    Besides jinja's own, templates have the filters ``shown`` (text of paragraphs, every character
    that acts spelled out) and ``name`` (on one line), and the functions ``style(file)`` and
    ``script(file)``: the element with the content of a file of the package, of which
    ``script_hash(file)`` goes into the policy. Raises jinja2.UndefinedError where a value is
    missing.
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
        "ensure_ascii": True,  # line separators and half characters, too
        "allow_nan": False,
        "separators": (",", ":"),
    }
    environment.filters["shown"] = lambda text: escape_controls(str(text), allowed="\n\t")
    environment.filters["name"] = lambda text: display_name(str(text))
    # Files of the project's own: they are markup, no values.
    environment.globals["style"] = lambda name: Markup("<style>{}</style>").format(
        Markup(own(name))
    )
    environment.globals["script"] = lambda name: Markup("<script>{}</script>").format(
        Markup(own(name))
    )
    environment.globals["script_hash"] = lambda name: _hash(own(name))
    return environment


def _hash(script: str) -> str:
    """As content security policies name a script: https://www.w3.org/TR/CSP3/#source-list-syntax"""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
