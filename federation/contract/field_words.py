"""What the source says under a field: the strings that stand behind the fields of a struct, for the generated page."""

from __future__ import annotations

import ast
import inspect
import textwrap

import msgspec


def field_words(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The words under each field of a struct, those of its bases too; fields without any are left out.

    Read from the source, because Python keeps no docstrings of attributes; OSError where there is none.
    """
    words: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, msgspec.Struct) and each is not msgspec.Struct:
            words |= _of_class(each)
    return words


def _of_class(kind: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    if not isinstance(definition, ast.ClassDef):
        return {}
    words: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            words[field.target.id] = " ".join(inspect.cleandoc(below.value.value).split())
    return words
