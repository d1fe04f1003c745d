"""WQL, WMI's query language: the parser, and what a condition says of an instance.

SELECT … FROM … WHERE …, ASSOCIATORS OF {…} WHERE …, REFERENCES OF {…} WHERE … (Microsoft's "WQL (SQL for WMI)").
Strings compare without case, as WMI's do; LIKE knows %, _, [a-z] and [^a-z].  Event queries are refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from federation_hyperv.cim import Instance, Reference
from federation_hyperv.cim.errors import BadValue, CimError
from federation_hyperv.cim.paths import parse_path
from federation_hyperv.cim.values import Scalar, read_time


class WqlError(CimError):
    """The query is not WQL; WinRM answers CannotProcessFilter."""


Condition = Callable[[Instance], bool]
Constant = str | int | float | bool | None

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")|(?P<number>-?\d+(?:\.\d+)?(?![\w]))|"""
    r"""(?P<path>\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})|(?P<name>[A-Za-z_][\w.]*)|(?P<op><>|!=|<=|>=|[=<>(),*]))""",
    re.DOTALL,
)
_LIMIT_CHARACTERS = 64 << 10
_SYSTEM_PROPERTIES = {"__class", "__path", "__relpath", "__server"}
"""What a property may be compared with besides constants; libvirt asks for `Name != __SERVER`."""


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT: the properties (empty for all), the class, the condition."""

    fields: tuple[str, ...]
    class_name: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class Related:
    """ASSOCIATORS OF, or with ``references`` REFERENCES OF: from which instance, narrowed by what."""

    source: Reference
    references: bool = False
    association: str = ""
    result: str = ""
    role: str = ""
    result_role: str = ""
    keys_only: bool = False


Query = Select | Related


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    def is_word(self, word: str) -> bool:
        return self.kind == "name" and self.text.upper() == word


def parse(text: str) -> Query:
    """Read one query; WqlError says what is wrong with it."""
    if len(text) > _LIMIT_CHARACTERS:
        raise WqlError("the query is too long")
    parser = _Parser(_tokens(text.strip().rstrip(";")))
    return parser.query()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if not text[position:].strip():
                break
            raise WqlError(f"cannot read {text[position : position + 20]!r}")
        found.append(_Token(str(match.lastgroup), str(match[str(match.lastgroup)])))
        position = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def query(self) -> Query:
        if self._accept("SELECT"):
            made: Query = self._select()
        elif self._accept("ASSOCIATORS"):
            made = self._related(references=False)
        elif self._accept("REFERENCES"):
            made = self._related(references=True)
        else:
            raise WqlError("a query starts with SELECT, ASSOCIATORS OF or REFERENCES OF")
        if self._at < len(self._tokens):
            raise WqlError(f"unexpected {self._tokens[self._at].text!r} after the query")
        return made

    def _select(self) -> Select:
        fields: list[str] = []
        if not self._accept_op("*"):
            fields.append(self._name("a property"))
            while self._accept_op(","):
                fields.append(self._name("a property"))
        self._expect("FROM")
        class_name = self._name("a class")
        if class_name.startswith("__"):
            raise WqlError("event queries are not served here")
        condition: Condition = _always
        if self._accept("WITHIN"):
            raise WqlError("event queries are not served here")
        if self._accept("WHERE"):
            condition = self._or()
        return Select(tuple(fields), class_name, condition)

    def _related(self, *, references: bool) -> Related:
        self._expect("OF")
        token = self._next("an object path in braces")
        if token.kind != "path":
            raise WqlError("ASSOCIATORS OF takes an object path in braces")
        source = parse_path(token.text[1:-1])
        words: dict[str, str] = {}
        keys_only = False
        if self._accept("WHERE"):
            while self._at < len(self._tokens):
                name = self._name("a restriction").upper()
                if name in {"KEYSONLY", "CLASSDEFSONLY", "SCHEMAONLY"}:
                    keys_only = keys_only or name == "KEYSONLY"
                    continue
                if name not in {"ASSOCCLASS", "RESULTCLASS", "ROLE", "RESULTROLE", "REQUIREDQUALIFIER",
                                "REQUIREDASSOCQUALIFIER"}:  # fmt: skip
                    raise WqlError(f"{name} restricts nothing")
                if not self._accept_op("="):
                    raise WqlError(f"{name} wants a value")
                words[name] = self._name("a name")
        return Related(
            source, references, words.get("ASSOCCLASS", ""), words.get("RESULTCLASS", ""), words.get("ROLE", ""),
            words.get("RESULTROLE", ""), keys_only,
        )  # fmt: skip

    def _or(self) -> Condition:
        left = self._and()
        while self._accept("OR"):
            left = _either(left, self._and())
        return left

    def _and(self) -> Condition:
        left = self._not()
        while self._accept("AND"):
            left = _both(left, self._not())
        return left

    def _not(self) -> Condition:
        if self._accept("NOT"):
            inner = self._not()
            return lambda instance: not inner(instance)
        if self._accept_op("("):
            inner = self._or()
            if not self._accept_op(")"):
                raise WqlError("a closing parenthesis is missing")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        left = self._next("a property")
        if left.kind != "name" or left.text.upper() in {"TRUE", "FALSE", "NULL"}:
            return self._turned(left)
        name = left.text
        if self._accept("IS"):
            negated = self._accept("NOT")
            self._expect("NULL")
            return lambda instance: (value_of(instance, name) is None) is not negated
        if self._accept("ISA"):
            wanted = str(_constant(self._next("a class")))
            return lambda instance: instance.class_name.lower() == wanted.lower()
        if self._accept("NOT"):
            self._expect("LIKE")
            like = _like(name, str(_constant(self._next("a pattern"))))
            return lambda instance: not like(instance)
        if self._accept("LIKE"):
            return _like(name, str(_constant(self._next("a pattern"))))
        operator = self._operator()
        return _comparing_with(name, operator, self._next("a value"))

    def _turned(self, left: _Token) -> Condition:
        turned = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
        operator = self._operator()
        return _comparing(self._name("a property"), turned.get(operator, operator), _constant(left))

    def _operator(self) -> str:
        token = self._next("an operator")
        if token.kind != "op" or token.text in "(),*":
            raise WqlError(f"{token.text!r} is no operator")
        return "<>" if token.text == "!=" else token.text

    def _next(self, what: str) -> _Token:
        if self._at >= len(self._tokens):
            raise WqlError(f"the query ends where {what} should be")
        self._at += 1
        return self._tokens[self._at - 1]

    def _name(self, what: str) -> str:
        token = self._next(what)
        if token.kind != "name":
            raise WqlError(f"{token.text!r} stands where {what} should be")
        return token.text

    def _accept(self, word: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at].is_word(word):
            self._at += 1
            return True
        return False

    def _accept_op(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] == _Token("op", text):
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise WqlError(f"{word} is missing")


def _always(_instance: Instance) -> bool:
    return True


def _either(left: Condition, right: Condition) -> Condition:
    return lambda instance: left(instance) or right(instance)


def _both(left: Condition, right: Condition) -> Condition:
    return lambda instance: left(instance) and right(instance)


def _constant(token: _Token) -> Constant:
    if token.kind == "string":
        quote = token.text[0]
        return token.text[1:-1].replace(quote * 2, quote)
    if token.kind == "number":
        return float(token.text) if "." in token.text else int(token.text)
    words: dict[str, Constant] = {"TRUE": True, "FALSE": False, "NULL": None}
    if token.kind == "name":
        return words.get(token.text.upper(), token.text)
    raise WqlError(f"{token.text!r} is no value")


def value_of(instance: Instance, name: str) -> object:
    """A property, or a system property such as __PATH; CimError when there is none of that name."""
    name = name.rpartition(".")[2]
    lower = name.lower()
    if lower == "__class":
        return instance.class_name
    if lower == "__path":
        return instance.path
    if lower == "__relpath":
        return instance.path.partition(":")[2]
    if lower == "__server":
        return instance.host
    return instance[name]


def _comparing_with(name: str, operator: str, right: _Token) -> Condition:
    """A comparison with a constant or with a system property."""
    if right.kind == "name" and right.text.lower() in _SYSTEM_PROPERTIES:
        return lambda instance: _comparing(name, operator, str(value_of(instance, right.text)))(instance)
    return _comparing(name, operator, _constant(right))


def _comparing(name: str, operator: str, wanted: Constant) -> Condition:
    lower = name.lower()

    def holds(instance: Instance) -> bool:
        value = value_of(instance, name)
        if isinstance(value, list):
            return False
        if isinstance(value, Reference) or lower in {"__path", "__relpath"}:
            return _same_path(instance, value, str(wanted)) is (operator == "=")
        return _compare(value, operator, wanted)  # type: ignore[arg-type]

    return holds


def _same_path(instance: Instance, value: object, wanted: str) -> bool:
    reference = value if isinstance(value, Reference) else instance.reference
    for text in _readings(wanted):
        with contextlib.suppress(BadValue):  # one of the readings need not be a path
            if parse_path(text).identity() == reference.identity():
                return True
    return False


def _readings(text: str) -> set[str]:
    """A string as it stands, and with its escapes undone: clients of Hyper-V paste object paths without escaping."""
    return {text, re.sub(r"\\([\\'\"])", r"\1", text)}


def _compare(value: Scalar | None, operator: str, wanted: Constant) -> bool:
    if value is None or wanted is None:
        return {"=": value is wanted, "<>": value is not wanted}.get(operator, False)
    if isinstance(value, str) and isinstance(wanted, str) and operator in {"=", "<>"}:
        return (value.lower() in {reading.lower() for reading in _readings(wanted)}) is (operator == "=")
    left, right = _comparable(value, wanted)
    results: dict[str, Callable[[], bool]] = {
        "=": lambda: left == right, "<>": lambda: left != right, "<": lambda: left < right,
        ">": lambda: left > right, "<=": lambda: left <= right, ">=": lambda: left >= right,
    }  # fmt: skip
    try:
        return bool(results[operator]())
    except TypeError as error:
        raise WqlError(f"{wanted!r} cannot be compared with {value!r}") from error


def _comparable(value: Scalar, wanted: Constant) -> tuple[Any, Any]:
    if isinstance(value, bool):
        truth = wanted.lower() in {"true", "1"} if isinstance(wanted, str) else bool(wanted)
        return value, truth
    if isinstance(value, int | float):
        if isinstance(wanted, str):
            try:
                return value, float(wanted)
            except ValueError as error:
                raise WqlError(f"{wanted!r} is no number") from error
        return value, wanted
    if isinstance(value, dt.datetime | dt.timedelta):
        return value, read_time(str(wanted))
    return str(value).lower(), str(wanted).lower()


def _like(name: str, pattern: str) -> Condition:
    parts: list[str] = []
    for piece in re.findall(r"\[\^?[^\]]+\]|%|_|.", pattern.replace("\\\\", "\\"), re.DOTALL):
        if piece == "%":
            parts.append(".*")
        elif piece == "_":
            parts.append(".")
        elif len(piece) > 1:
            parts.append(piece)
        else:
            parts.append(re.escape(piece))
    compiled = re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
    return lambda instance: (value := value_of(instance, name)) is not None and bool(compiled.fullmatch(str(value)))
