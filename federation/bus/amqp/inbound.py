"""What the broker sends: frames put together to deliveries, returns and confirms, and handed to whom they belong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from federation.bus.amqp.frames import ACK, BODY, DELIVER, HEADER, METHOD, NACK, RETURN, Content, decode_confirm
from federation.bus.amqp.outbox import Outbox
from federation.bus.link import PublishResult

Frame = tuple[int, int, bytes]


class Inbound:
    """The incoming side of one connection; all on the I/O thread.

    Frames wait in a queue of their own while they are handed out, so that order holds even where a py-amqp method pumps.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._frames: deque[Frame] = deque()
        self._contents: dict[int, Content] = {}
        self._routes: dict[int, Callable[[Content], None]] = {}

    def __bool__(self) -> bool:
        """Whether something waits to be handed out."""
        return bool(self._frames)

    def add(self, frames: Iterable[Frame]) -> None:
        """Frames have come."""
        self._frames.extend(frames)

    def clear(self) -> None:
        """The connection is gone."""
        self._frames.clear()
        self._contents.clear()
        self._routes.clear()

    def route(self, channel_id: int, deliver: Callable[[Content], None] | None) -> None:
        """Say who gets the deliveries of a channel from now on; None for a channel that is closed."""
        self._contents.pop(channel_id, None)
        if deliver is None:
            self._routes.pop(channel_id, None)
        else:
            self._routes[channel_id] = deliver

    def dispatch(self, elsewhere: Callable[[Frame], object]) -> None:
        """Hand out everything that has come; ``elsewhere`` (py-amqp) takes what is not of the hot path."""
        frames = self._frames
        contents = self._contents
        while frames:
            frame = frames.popleft()
            kind, channel, payload = frame
            if kind == METHOD:
                method = payload[:4]
                if method in (DELIVER, RETURN):
                    contents[channel] = Content(method, payload)
                elif method == ACK:
                    tag, multiple = decode_confirm(payload)
                    self._outbox.confirm(tag, PublishResult.CONFIRMED, multiple=multiple)
                elif method == NACK:
                    tag, multiple = decode_confirm(payload)
                    self._outbox.confirm(tag, PublishResult.NACKED, multiple=multiple)
                else:
                    elsewhere(frame)
            elif kind in (HEADER, BODY):
                content = contents.get(channel)
                if content is None:
                    continue  # the channel was closed here while the broker was sending
                if content.add_header(payload) if kind == HEADER else content.add_body(payload):
                    self._take(channel)

    def _take(self, channel: int) -> None:
        content = self._contents.pop(channel)
        if content.method == RETURN:
            self._outbox.returned(content.properties.get("app_id"))
            return
        deliver = self._routes.get(channel)
        if deliver is not None:
            deliver(content)
