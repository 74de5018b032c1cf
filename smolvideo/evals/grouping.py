"""Groups of items by their fields, and by combinations of them (``duration × domain``)."""

from collections.abc import Mapping, Sequence

from smolvideo.errors import UsageError
from smolvideo.evals.item import EvalItem
from smolvideo.sanitize import display_name

Grouping = tuple[str, ...]
"""Fields whose combinations are the groups."""

CROSS_TABULATED = ("category", "hard_split")
"""Two fields that CinePile's authors also cross-tabulate."""

_MAX_FIELDS_NAMED = 12
_TIMES = " × "  # noqa: RUF001


def parse_groupings(texts: Sequence[str], items: Sequence[EvalItem]) -> tuple[Grouping, ...]:
    """Parse ``FIELD[,FIELD]`` texts; a field whose own name has a comma is one field.

    Raises UsageError for a field that no item has, and for a field twice in one text.

    >>> item = EvalItem("1", ("v",), "?", ("x", "y"), 0, groups={"a": "1", "b": "2"})
    >>> parse_groupings(["a,b", "b"], [item])
    (('a', 'b'), ('b',))
    """
    known = dict.fromkeys(name for item in items for name in item.groups)
    found: dict[Grouping, None] = {}
    for text in texts:
        fields = (text,) if text in known else tuple(part.strip() for part in text.split(","))
        if not all(fields):
            raise UsageError(f"`{display_name(text)}` has an empty field name", hint=_hint(known))
        for field in fields:
            if field not in known:
                raise UsageError(
                    f"no group field `{display_name(field)}` in these questions", hint=_hint(known)
                )
        if len({*fields}) < len(fields):
            raise UsageError(f"`{display_name(text)}` has the same field twice")
        found[fields] = None
    return tuple(found)


def _hint(known: Mapping[str, None]) -> str:
    if not known:
        return "they have no group fields"
    named = ", ".join(display_name(name) for name in list(known)[:_MAX_FIELDS_NAMED])
    return "the fields: " + named + (", …" if len(known) > _MAX_FIELDS_NAMED else "")


def group_items(
    items: Sequence[EvalItem], groupings: Sequence[Grouping] = ()
) -> dict[str, dict[str, list[EvalItem]]]:
    """Return the title of each grouping with its groups, sorted by name.

    Without ``groupings`` these are all fields, and ``CROSS_TABULATED``. An item is in no group of a
    grouping of which it lacks a field.
    """
    if not groupings:
        names = dict.fromkeys(name for item in items for name in item.groups)
        groupings = [*((name,) for name in names), CROSS_TABULATED]
    groups: dict[str, dict[str, list[EvalItem]]] = {}
    for fields in groupings:
        for item in items:
            if all(field in item.groups for field in fields):
                value = _TIMES.join(item.groups[field] for field in fields)
                groups.setdefault(_TIMES.join(fields), {}).setdefault(value, []).append(item)
    return {
        title: {value: members[value] for value in sorted(members)}
        for title, members in groups.items()
    }
