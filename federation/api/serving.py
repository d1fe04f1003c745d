"""The web server in a thread of the manager's process."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from federation.api import declared, fixed
from federation.api.application import Application
from federation.bootstrap.interfaces import InterfaceError, InterfaceSettings, Served
from federation.contract.struct_types import prepare_types

log = logging.getLogger(__name__)

_START_SECONDS = 10.0
_BACKLOG = 512
_MAX_CONNECTIONS = 2048


class PatientProtocol(HttpToolsProtocol):
    """Gives a client a bounded time, and a bounded length, for a request's line and headers; uvicorn has no bounds.

    A body's time is the application's business, the time between two requests is ``timeout_keep_alive``.
    """

    seconds = 30.0
    longest_head = 64 * 1024
    """Bytes; what comes at once is read whole (asyncio reads 256 KiB at most)."""
    _patience: asyncio.TimerHandle | None = None
    _head: int | None = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """A client is here and has said nothing."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """It has said something, maybe all of it."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > self.longest_head and not self.transport.is_closing():
                self.send_400_response(f"The request's line and headers are longer than {self.longest_head} bytes.")
        self._watch()

    def on_message_begin(self) -> None:
        """A request begins, which the parser tells."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """Its line and headers are here, which the parser tells."""
        super().on_headers_complete()
        self._head = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        super().connection_lost(exc)
        self._rest()

    def _watch(self) -> None:
        under_way: RequestResponseCycle | None = self.cycle  # None before the first request
        if under_way is not None and not under_way.response_complete:
            self._rest()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(self.seconds, self._lose_patience)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        log.info("a client sent no whole request within %g s; its connection is closed", self.seconds)
        self.transport.close()


class Server:
    """Serves until ``stop``."""

    def __init__(self, server: uvicorn.Server, listening: socket.socket, scheme: str) -> None:
        self._server = server
        self._socket = listening
        self._scheme = scheme
        self._thread = threading.Thread(target=server.run, args=([listening],), name="api", daemon=True)

    @property
    def address(self) -> str:
        """Its URL, with the port that it really has."""
        host, port = self._socket.getsockname()[:2]
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def start(self) -> None:
        """Serve; raises InterfaceError when that does not begin."""
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.stop(1.0)
                raise InterfaceError("the web server did not start; the log says why")
            time.sleep(0.01)

    def stop(self, timeout: float) -> None:
        """Take no new requests, end what is open."""
        self._server.should_exit = True
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("the web server did not end within %s s; its open requests are cut off", timeout)
            self._server.force_exit = True
        self._socket.close()


def serve(served: Served, settings: InterfaceSettings) -> Server:
    """Serve the REST interface; raises InterfaceError."""
    application = Application(served, [*declared.routes(), *fixed.routes()])
    prepare_types()
    config = uvicorn.Config(
        application.litestar,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        ws="none",
        proxy_headers=False,
        http=PatientProtocol,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        message = f"certificate {settings.certificate} or its key {settings.private_key} cannot be used: {error}"
        raise InterfaceError(message) from error
    server = Server(uvicorn.Server(config), _listen(settings), "https" if settings.certificate else "http")
    server.start()
    return server


def _listen(settings: InterfaceSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        message = f"{settings.host}:{settings.port} cannot be listened on: {error.strerror or error}"
        raise InterfaceError(message) from error
    # Connections have it from here: asyncio sets it only on sockets that name their protocol. Without it an answer's body
    # waits behind its head for the client's delayed acknowledgement, 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
