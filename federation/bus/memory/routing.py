"""Which bindings a routing key matches, by the kind of the exchange (AMQP 0-9-1, 3.1.3)."""

from __future__ import annotations

from functools import lru_cache

EXCHANGE_KINDS = frozenset({"direct", "topic", "fanout"})


def matches(kind: str, pattern: str, routing_key: str) -> bool:
    """Whether a binding's pattern takes a routing key; ``*`` is one word of a topic and ``#`` any number of them."""
    if kind == "fanout":
        return True
    if kind == "direct":
        return pattern == routing_key
    return _matches_topic(pattern, routing_key)


@lru_cache(maxsize=4096)
def _matches_topic(pattern: str, routing_key: str) -> bool:
    return _words_match(tuple(pattern.split(".")), tuple(routing_key.split(".")))


def _words_match(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not pattern:
        return not words
    head, *rest = pattern
    tail = tuple(rest)
    if head == "#":
        return any(_words_match(tail, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and _words_match(tail, words[1:])
