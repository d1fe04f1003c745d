"""The one door to a link: the URL's scheme says which broker."""

from __future__ import annotations

from federation.bus.address import MEMORY_SCHEME, Address, parse_address
from federation.bus.amqp.link import AmqpLink
from federation.bus.link import Link
from federation.bus.memory.link import MemoryLink


def open_link(url: str | Address, name: str) -> Link:
    """A link to the broker that ``url`` names, not yet started.

    ``name`` is shown in the broker's list of connections.  Raises AddressError.
    """
    address = parse_address(url)
    if address.scheme == MEMORY_SCHEME:
        return MemoryLink(address, name)
    return AmqpLink(address, name)
