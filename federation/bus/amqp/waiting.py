"""How the I/O thread sleeps: on its socket, and on a counter of the kernel by which other threads wake it."""

from __future__ import annotations

import os
import select
import socket
import sys
from io import FileIO

_ONE = (1).to_bytes(8, sys.byteorder)
_SOURCES = 2
"""The counter and the socket."""


class Waiter:
    """epoll over one connection's socket and an eventfd.

    The eventfd is watched edge-triggered: every write to it ends one sleep and nobody has to read it, which saves the
    woken thread a system call and a turn of Python's lock (eventfd(2), epoll(7)).
    """

    def __init__(self) -> None:
        self._asleep = False
        # A file object, not the bare descriptor: after the end a late wake-up finds it closed, never another file.
        self._counter = FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "w")
        self._epoll = select.epoll()
        self._epoll.register(self._counter, select.EPOLLIN | select.EPOLLET)
        self._watched: tuple[socket.socket, int] | None = None
        self._descriptor = -1
        self._closed = False

    def wake(self) -> None:
        """End the sleep, if there is one; from any thread.

        Whoever adds work does it before this call and the sleeper looks for work after it has set its flag, so that
        no work is slept over.
        """
        if self._asleep:
            self._asleep = False
            try:
                self._counter.write(_ONE)
            except (OSError, ValueError):
                if not self._closed:
                    raise

    def watch(self, sock: socket.socket, *, for_writing: bool) -> None:
        """Sleep on this socket from now on."""
        events = select.EPOLLIN | (select.EPOLLOUT if for_writing else 0)
        if self._watched == (sock, events):
            return
        if self._watched is None:
            self._epoll.register(sock, events)
            self._descriptor = sock.fileno()
        else:
            self._epoll.modify(sock, events)
        self._watched = (sock, events)

    def unwatch(self) -> None:
        """The socket is about to be closed, or is."""
        if self._watched is not None:
            sock, self._watched = self._watched[0], None
            if sock.fileno() >= 0:  # the kernel forgets a closed one by itself
                self._epoll.unregister(sock)
            self._descriptor = -1

    def announce(self) -> None:
        """The thread is about to sleep: from now on :meth:`wake` writes to the counter."""
        self._asleep = True

    def sleep(self, seconds: float) -> bool:
        """Sleep; whether the connection's socket has something to read, or has failed, which reading tells."""
        readable = False
        for descriptor, events in self._epoll.poll(seconds, _SOURCES):
            if descriptor == self._descriptor and events & ~select.EPOLLOUT:
                readable = True
        self._asleep = False
        return readable

    def close(self) -> None:
        """Give the descriptors back."""
        self._closed = True
        self._epoll.close()
        self._counter.close()
