"""The Litestar application: one handler for each route, health, the OpenAPI document, event streams, request ids."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
import uuid_utils
from litestar import HttpMethod, Litestar, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.response import Stream

from federation.api.document import EVENTS, openapi_document
from federation.api.handling import Answer, Handling, Received
from federation.api.pool import Pool
from federation.api.problems import MEDIA_TYPE, Refusal, of_error, of_status, rendered
from federation.api.routes import Route
from federation.api.watching import Record, Watching
from federation.bootstrap.client import value_of
from federation.bootstrap.interfaces import Served
from federation.contract.errors import OperationError, Unavailable
from federation.protocol.errors import StoreUnavailable

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
_BODY_SECONDS = 30.0
_SILENCE_SECONDS = 15.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_FIXED_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Application:
    """Serves one manager's use cases; ``litestar`` is what an ASGI server runs."""

    def __init__(self, served: Served, routes: list[Route]) -> None:
        self._served = served
        self._handling = Handling(served.ask, served.access)
        self._quick = Pool("use cases", threads=32, waiting=256)
        self._reads = Pool("reads", threads=4, waiting=256)
        self._slow = Pool("hypervisor reads", threads=16, waiting=64)
        self._watching = Watching(self._watched)
        self._document = msgspec.json.encode(openapi_document(routes, MAX_BODY_BYTES))
        every = [*routes, EVENTS]
        # Those of OPTIONS first: where there is none, Litestar makes its own with the path's first handler.
        handlers = [self._options(path, methods) for path, methods in _methods(every).items()]
        handlers += [self._handler(each) for each in every]
        for path, answer in (
            ("/health/live", self._live),
            ("/health/ready", self._ready),
            ("/openapi.json", self._openapi),
        ):
            handlers.append(route(path, http_method="GET", include_in_schema=False)(_bound(answer)))
        self.litestar = Litestar(
            handlers,
            openapi_config=None,
            request_max_body_size=MAX_BODY_BYTES,
            exception_handlers={Refusal: _refused, HTTPException: _refused_by_litestar, Exception: _failed},
            on_startup=[self._watching.start],
            on_shutdown=[self._watching.stop, self._close],
            logging_config=None,
            before_request=_name_request,
        )

    def _handler(self, each: Route) -> Any:
        answer = functools.partial(self._events if each is EVENTS else self._answer, each)
        # The answer brings its own status; Litestar looks at this one only to judge the handler.
        made = route(
            _litestar_path(each.path), http_method=HttpMethod(each.method), status_code=200, include_in_schema=False
        )
        return made(_bound(answer))

    def _options(self, path: str, methods: list[str]) -> Any:
        """Litestar's own names the methods of one handler of the path only."""
        allow = ", ".join(sorted({*methods, "OPTIONS"}))

        async def answer(request: Request[Any, Any, Any]) -> Response[bytes]:
            return _response(request, Answer(204, b"", {"Allow": allow}))

        made = route(_litestar_path(path), http_method=HttpMethod.OPTIONS, status_code=200, include_in_schema=False)
        return made(_bound(answer))

    async def _answer(self, each: Route, request: Request[Any, Any, Any]) -> Response[bytes]:
        received = await _received(request, with_body=each.method == "POST")
        pool = self._slow if each.slow else self._reads if each.method == "GET" else self._quick
        started = time.monotonic()
        answer = await _translated(pool, functools.partial(self._handling.answer, each, received))
        milliseconds = (time.monotonic() - started) * 1000
        log.info("%s status=%d request=%s took=%.1f ms", each.name, answer.status, _id(request), milliseconds)
        return _response(request, answer)

    async def _events(self, each: Route, request: Request[Any, Any, Any]) -> Stream:
        received = await _received(request, with_body=False)
        call = await _translated(self._quick, functools.partial(self._handling.call_of, each, received))
        first = await _translated(self._quick, call.operation)
        try:
            records = self._watching.follow(first["id"], first, call.query.seconds, _SILENCE_SECONDS)
        except OperationError as error:
            raise of_error(error) from error
        records = _as_long_as(functools.partial(self._may_still_see, received), records)
        headers = {**_FIXED_HEADERS, "X-Request-Id": _id(request), "X-Accel-Buffering": "no"}
        seen = received.headers.get("last-event-id")
        return Stream(_as_events(records, seen), media_type="text/event-stream", headers=headers)

    async def _may_still_see(self, received: Received) -> bool:
        """Whether the token of a stream is good yet; while nobody can say it counts as good."""
        try:
            await _translated(self._quick, functools.partial(self._handling.bearer, received))
        except Refusal as refusal:
            return refusal.status != HTTPStatus.UNAUTHORIZED
        return True

    async def _watched(self, ids: list[str]) -> list[Record]:
        ask = functools.partial(self._served.ask, "watched", {"operations": ids})
        records: list[Record] = value_of(await self._quick.run(ask))
        return records

    async def _live(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        return _response(request, Answer(200, b'{"status":"live"}'))

    async def _ready(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        missing = await _translated(self._quick, self._missing)
        if missing is not None:
            raise of_error(Unavailable(missing))
        return _response(request, Answer(200, b'{"status":"ready"}'))

    def _missing(self) -> str | None:
        if not self._served.broker_connected():
            return "the broker is not connected"
        value_of(self._served.ask("clusters", {}))
        return None

    async def _openapi(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        return _response(request, Answer(200, self._document))

    async def _close(self) -> None:
        self._quick.close()
        self._reads.close()
        self._slow.close()


def _litestar_path(path: str) -> str:
    return re.sub(r"\{(\w+)\}", r"{\1:str}", path)


def _methods(routes: list[Route]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in routes:
        found.setdefault(each.path, []).append(each.method)
    return found


def _bound(answer: Callable[[Request[Any, Any, Any]], Any]) -> Callable[..., Any]:
    """Litestar reads a handler's parameters from its annotations."""

    async def handle(request: Request[Any, Any, Any]) -> Response[Any]:
        reply: Response[Any] = await answer(request)
        return reply

    handle.__annotations__ = {"request": Request, "return": Response}
    return handle


async def _name_request(request: Request[Any, Any, Any]) -> None:
    """Every request has an id, the caller's where it is a decent one."""
    _id(request)


def _id(request: Request[Any, Any, Any]) -> str:
    found: str | None = request.scope["state"].get("request_id")
    if found is None:
        told = request.headers.get("x-request-id", "")
        found = told if _REQUEST_ID.fullmatch(told) else str(uuid_utils.uuid7())
        request.scope["state"]["request_id"] = found
    return found


async def _received(request: Request[Any, Any, Any], *, with_body: bool) -> Received:
    body = b""
    if with_body:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.body()
        except TimeoutError as error:
            raise of_status(
                408, f"the body did not come within {_BODY_SECONDS:g} s", {"Connection": "close"}
            ) from error
    return Received(
        path={name: str(value) for name, value in request.path_params.items()},
        raw_path=request.url.path,
        query=request.scope["query_string"].decode("latin-1"),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        request=_id(request),
    )


async def _translated(pool: Pool, work: Callable[[], Any]) -> Any:
    try:
        return await pool.run(work)
    except OperationError as error:
        raise of_error(error) from error
    except StoreUnavailable as error:
        raise of_error(Unavailable(f"the manager's store does not answer: {error}")) from error


async def _as_long_as(
    still: Callable[[], Awaitable[bool]], records: AsyncIterator[Record | None]
) -> AsyncIterator[Record | None]:
    """A stream that ends before it tells anything to who may not see it any more; it is asked at every comment, too."""
    first = True
    try:
        async for record in records:
            if not first and not await still():
                return
            first = False
            yield record
    finally:
        await records.aclose()  # type: ignore[attr-defined]  # it is a generator


def _response(request: Request[Any, Any, Any], answer: Answer) -> Response[bytes]:
    headers = {**_FIXED_HEADERS, "X-Request-Id": _id(request), **answer.headers}
    return Response(answer.body, status_code=answer.status, media_type="application/json", headers=headers)


def _refused(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    headers = {**_FIXED_HEADERS, "X-Request-Id": _id(request), **refusal.headers}
    log.info("refused status=%d code=%s request=%s", refusal.status, refusal.code, _id(request))
    body = rendered(refusal, _id(request))
    return Response(body, status_code=refusal.status, media_type=MEDIA_TYPE, headers=headers)


def _refused_by_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    return _refused(request, of_status(error.status_code, error.detail, dict(error.headers or {})))


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request=%s failed: a defect of the manager", _id(request), exc_info=error)
    detail = f"the manager failed ({type(error).__name__}); its log says more"
    return _refused(request, Refusal(500, "internal", detail, "Report it with the request's id."))


async def _as_events(records: AsyncIterator[Record | None], seen: str | None) -> AsyncIterator[bytes]:
    """Server-sent events by the WHATWG: ``operation`` with the record, a comment where nothing changes.

    An event's id is made of its data, by any manager alike: who connects again with ``Last-Event-ID`` is not told again
    what it has ``seen``.
    """
    async for record in records:
        if record is None:
            yield b": still there\n\n"
            continue
        data = msgspec.json.encode(record)
        identity = hashlib.blake2b(data, digest_size=12).hexdigest()
        if identity != seen:
            yield b"id: " + identity.encode() + b"\nevent: operation\ndata: " + data + b"\n\n"
        seen = None
