"""What an operation is ordered by, as one text: an instance's UUID, or ``node:<cluster>/<name>``.

Node names are unique only within their cluster, and a cluster's name holds no slash, so the first one ends it.
"""

from __future__ import annotations

_NODE = "node:"


def node_key(cluster: str, node: str) -> str:
    """The ordering key of a node."""
    return f"{_NODE}{cluster}/{node}"


def node_of(key: str) -> tuple[str, str] | None:
    """(cluster, node) of a node's key, None for an instance's."""
    cluster, slash, node = key.removeprefix(_NODE).partition("/")
    return (cluster, node) if key.startswith(_NODE) and slash else None


def words_of(key: str) -> str:
    """The key as people say it."""
    node = node_of(key)
    return f"instance {key}" if node is None else f"node {node[1]} of cluster {node[0]}"
