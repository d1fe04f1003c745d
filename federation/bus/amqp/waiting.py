"""How the I/O thread sleeps: on its socket, and on a pipe by which other threads wake it."""

from __future__ import annotations

import selectors
import socket


class Waiter:
    """A selector over one connection's socket and a wake-up pipe."""

    def __init__(self) -> None:
        self._asleep = False
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)  # noqa: FBT003  # the only argument
        self._wakee.setblocking(False)  # noqa: FBT003
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakee, selectors.EVENT_READ)
        self._watched: tuple[socket.socket, int] | None = None
        self._closed = False

    def wake(self) -> None:
        """End the sleep, if there is one; from any thread.

        Whoever adds work does it before this call and the sleeper looks for work after it has set its flag, so that
        no work is slept over.
        """
        if self._asleep:
            self._asleep = False
            try:
                self._waker.send(b"\0")
            except BlockingIOError:
                return  # the pipe is full of wake-ups
            except OSError:
                if not self._closed:
                    raise

    def watch(self, sock: socket.socket, *, for_writing: bool) -> None:
        """Sleep on this socket from now on."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if for_writing else 0)
        if self._watched == (sock, events):
            return
        if self._watched is None:
            self._selector.register(sock, events)
        else:
            self._selector.modify(sock, events)
        self._watched = (sock, events)

    def unwatch(self) -> None:
        """The socket is about to be closed, or is."""
        if self._watched is not None:
            self._selector.unregister(self._watched[0])
            self._watched = None

    def announce(self) -> None:
        """The thread is about to sleep: from now on :meth:`wake` writes to the pipe."""
        self._asleep = True

    def sleep(self, seconds: float) -> bool:
        """Sleep; whether the connection's socket has something to read."""
        readable = False
        for key, events in self._selector.select(seconds):
            if key.fileobj is self._wakee:
                self._wakee.recv(4096)
            elif events & selectors.EVENT_READ:
                readable = True
        self._asleep = False
        return readable

    def close(self) -> None:
        """Give the descriptors back."""
        self._closed = True
        self._selector.close()
        self._waker.close()
        self._wakee.close()
