"""From a received request to an answer: authenticate, authorise, parse, call the use case, render.  Runs in a thread.

Rules:

1. Nothing is looked at before the token is known to be good, and nothing is parsed before its role is known to be enough.
2. What the OpenAPI document forbids is refused with 400 before any use case sees it.
3. A POST with an ``Idempotency-Key`` that succeeded is answered again, for a day, without being done again; the same key
   with another request is refused, also while the first is under way.  What failed may be corrected and sent again with
   its key, for nothing was done; but where nobody can say whether it was (``unavailable``), only the same request may.
4. An operation bears the key and what was asked with it to the manager, which never makes a second one of the same two.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from federation.api.calls import Ask, Call
from federation.api.problems import Refusal, forbidden, malformed, of_error, unauthenticated, uncertain
from federation.api.routes import PATH_TYPES, Route, read_query
from federation.contract.errors import OperationError, Unavailable
from federation.manager.access import Access, allows
from federation.observe.tracing import is_on, request_span
from federation.protocol.errors import StoreUnavailable
from federation.protocol.records import SavedReply, TokenRecord

KEY_PATTERN = "^[!-~]{1,128}$"
_KEY = re.compile(KEY_PATTERN, re.ASCII)
_MAX_QUERY_FIELDS = 32


_EXACT = 2**53
"""Up to here a JSON number with a point is one integer and no other."""


def _number(text: str) -> int | float:
    """JSON Schema calls 1.0 an integer, too."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


_JSON = msgspec.json.Decoder(float_hook=_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it came; header names are lower case, ``request`` is its id."""

    path: dict[str, str]
    raw_path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""
    request: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handling:
    """Handles requests on behalf of one manager."""

    ask: Ask
    access: Access

    def call_of(self, route: Route, received: Received) -> Call:
        """The authenticated, authorised and parsed request; raises Refusal."""
        token = self.bearer(received)
        if route.role is not None and not allows(token.role, route.role):
            raise forbidden(f"{route.name} needs the role {route.role}, the token has {token.role}")
        key = _key(route, received)
        return Call(
            ask_manager=self.ask,
            token=token,
            path=_path(route, received),
            query=_query(route, received),
            body=_body(route, received),
            key=key,
            fingerprint="" if key is None else _fingerprint(route, received),
            request=received.request,
        )

    def answer(self, route: Route, received: Received) -> Answer:
        """Do what is asked; raises Refusal."""
        if not is_on():
            return self._answer(route, received)
        with request_span(route.method, route.path, received.headers.get("traceparent")) as span:
            try:
                answer = self._answer(route, received)
            except Refusal as refusal:
                span.set_attribute("http.response.status_code", refusal.status)
                raise
            span.set_attribute("http.response.status_code", answer.status)
            return answer

    def _answer(self, route: Route, received: Received) -> Answer:
        try:
            call = self.call_of(route, received)
            if call.key is None:
                return _answer_of(route, route.work(call))
            return self._once(route, call, call.key)
        except OperationError as error:
            raise (uncertain(error) if _may_be_done(route, error) else of_error(error)) from error
        except StoreUnavailable as error:
            raise of_error(Unavailable(f"the manager's store does not answer: {error}")) from error

    def _once(self, route: Route, call: Call, key: str) -> Answer:
        first = self.access.claim_key(call.token.id, key, call.fingerprint)
        if first is not None and first.fingerprint != call.fingerprint:
            detail = f"idempotency key {key!r} was used for another request"
            raise Refusal(422, "invalid_request", detail, "Use a new key for a new request.")
        if first is not None and first.status != SavedReply.UNDER_WAY:
            return Answer(first.status, first.body.encode(), {"Idempotency-Replayed": "true"})
        try:
            answer = _answer_of(route, route.work(call))
        except Refusal:
            self.access.give_key_up(call.token.id, key)
            raise
        except OperationError as error:
            if first is not None and self.access.is_under_way(first):
                # What stands in this one's way may be what the first has done just now.
                raise of_error(Unavailable(f"the first request with idempotency key {key!r} is under way")) from error
            if error.code != Unavailable.code:
                self.access.give_key_up(call.token.id, key)
            raise
        self.access.keep_reply(call.token.id, key, call.fingerprint, answer.status, answer.body.decode())
        return answer

    def bearer(self, received: Received) -> TokenRecord:
        """Whose request this is; raises Refusal with 401, StoreUnavailable."""
        scheme, token = _credentials(received)
        found = self.access.bearer(token) if scheme == "bearer" else None
        if found is None:
            raise unauthenticated()
        return found


def _may_be_done(route: Route, error: OperationError) -> bool:
    """The last word of the store, or of the broker, may be what did not come."""
    return route.method != "GET" and error.code == Unavailable.code


def _credentials(received: Received) -> tuple[str, str]:
    scheme, _, token = received.headers.get("authorization", "").partition(" ")
    return scheme.lower(), token.strip()


def _answer_of(route: Route, reply: Any) -> Answer:
    return Answer(route.status, b"" if route.reply is None else msgspec.json.encode(reply))


def _path(route: Route, received: Received) -> dict[str, str]:
    for name in route.path_variables():
        try:
            convert_text(received.path[name], PATH_TYPES[name])
        except msgspec.ValidationError as error:
            raise malformed(f"{name} in the path: {error}", field=name) from error
    return received.path


def convert_text(text: str, kind: Any) -> Any:
    """A text as a type; raises msgspec.ValidationError."""
    return msgspec.convert(text, kind, strict=False)


def _query(route: Route, received: Received) -> Any:
    try:
        pairs = parse_qsl(
            received.query, keep_blank_values=True, strict_parsing=False, max_num_fields=_MAX_QUERY_FIELDS
        )
    except ValueError as error:
        raise malformed(f"the query cannot be read: {error}", field="query") from error
    told = dict(pairs)
    if len(told) != len(pairs):
        raise malformed("the query names a parameter twice", field="query")
    try:
        return read_query(told, route.query)
    except msgspec.ValidationError as error:
        raise malformed(f"query: {error}", field="query") from error


def _body(route: Route, received: Received) -> Any:
    if route.body is None:
        return None
    content_type = received.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and (received.body or content_type):
        detail = f"the body is {content_type or 'of no type'}, expected application/json"
        raise Refusal(415, "unsupported_media_type", detail, "Send application/json.")
    try:
        return msgspec.convert(_JSON.decode(received.body or b"{}"), route.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"body: {error}", field="body") from error


def _key(route: Route, received: Received) -> str | None:
    key = received.headers.get("idempotency-key") if route.method == "POST" else None
    if key is not None and not _KEY.fullmatch(key):
        raise malformed("Idempotency-Key is not 1 to 128 visible ASCII characters", field="Idempotency-Key")
    return key


def _fingerprint(route: Route, received: Received) -> str:
    """Length before content: no two requests look alike.

    The token is the key: what the store keeps of a request must not tell whether a guessed password was in it.
    """
    digest = hmac.new(_credentials(received)[1].encode(), digestmod=hashlib.sha256)
    for part in (route.method.encode(), received.raw_path.encode(), received.query.encode(), received.body):
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()
