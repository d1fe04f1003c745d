"""Making and unmaking broker users: a list of steps, carried out by RabbitMQ's management API or shown as commands.

A step is data, so that what the API is asked and what ``rabbitmqctl`` would be told cannot differ in meaning.  A
password is made here and leaves only in the broker URL that the caller keeps; the broker is told its salted hash.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from federation.bus.broker_access import Permissions, TopicPermission

MAX_CONNECTIONS = 16
"""Of one user; a process of ours has three, and new ones before the broker has seen that the old are gone."""
_SALT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One request to the management API (``body`` None: DELETE) and the same as arguments of ``rabbitmqctl``."""

    path: str
    body: Mapping[str, Any] | None = field(repr=False)
    ctl: tuple[str, ...] = field(repr=False)

    @property
    def command(self) -> str:
        """A line for a shell."""
        return shlex.join(("rabbitmqctl", *self.ctl))


def new_password() -> str:
    """256 random bits that need no escaping in a URL."""
    return secrets.token_urlsafe(32)


def password_hash(password: str, salt: bytes | None = None) -> str:
    """RabbitMQ's salted SHA-256 (https://www.rabbitmq.com/docs/passwords#computing-password-hash)."""
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def make_vhost(name: str) -> list[Step]:
    """A virtual host; one that is there stays as it is, also with the command."""
    return [Step(f"vhosts/{_part(name)}", {}, ("add_vhost", name))]


def make_user(name: str, password: str, vhost: str, permissions: Permissions) -> list[Step]:
    """A user with exactly these permissions and limits, or a new password and these permissions for one that is there."""
    hashed = password_hash(password)
    user = Step(
        f"users/{_part(name)}",
        {"password_hash": hashed, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""},
        ("add_user", "--pre-hashed-password", name, hashed),
    )
    limit = Step(
        f"user-limits/{_part(name)}/max-connections",
        {"value": MAX_CONNECTIONS},
        ("set_user_limits", name, f'{{"max-connections": {MAX_CONNECTIONS}}}'),
    )
    return [user, limit, *_topic_steps(name, vhost, permissions.topics), _permit(name, vhost, permissions)]


def remove_user(name: str) -> list[Step]:
    """A user with its permissions; the broker ends its connections."""
    return [
        Step(f"connections/username/{_part(name)}", None, ("close_all_user_connections", name, "access revoked")),
        Step(f"users/{_part(name)}", None, ("delete_user", name)),
    ]


def _permit(name: str, vhost: str, permissions: Permissions) -> Step:
    patterns = {"configure": permissions.configure, "write": permissions.write, "read": permissions.read}
    ctl = ("set_permissions", "-p", vhost, name, *patterns.values())
    return Step(f"permissions/{_part(vhost)}/{_part(name)}", patterns, ctl)


def _topic_steps(name: str, vhost: str, topics: Iterable[TopicPermission]) -> list[Step]:
    return [
        Step(
            f"topic-permissions/{_part(vhost)}/{_part(name)}",
            {"exchange": topic.exchange, "write": topic.write, "read": topic.read},
            ("set_topic_permissions", "-p", vhost, name, topic.exchange, topic.write, topic.read),
        )
        for topic in topics
    ]


def _part(name: str) -> str:
    return quote(name, safe="")
