"""JSON schemas that an answer must follow: parsing, default limits, and compilation to a grammar.

parsing.py     a dict, JSON text, a pydantic model, a file or the short form → the text of a schema
short_form.py  ``name, count int, colour red|blue`` → a schema
keywords.py    keywords that are supported, refused or ignored, and the walk over subschemas
bounds.py      default limits of strings, arrays, objects and numbers, so that answers end
grammar.py     schema → grammar of llguidance; schemas that it does not support are refused
"""

from smolvideo.answer_schema.bounds import (
    MAX_ITEMS,
    MAX_STRING_LENGTH,
)
from smolvideo.answer_schema.grammar import compile_grammar
from smolvideo.answer_schema.parsing import SchemaArgument, read_schema, schema_text

__all__ = [
    "MAX_ITEMS",
    "MAX_STRING_LENGTH",
    "SchemaArgument",
    "compile_grammar",
    "read_schema",
    "schema_text",
]
