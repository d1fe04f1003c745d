"""Routes around tokens: whose the request's own is; and, for who administers all clusters, all of them.

A token's secret never comes here: whoever makes one sends its digest.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from federation.api.calls import Call
from federation.api.problems import forbidden
from federation.api.routes import READS_ONE, Body, ClusterName, Route, codes
from federation.contract import errors as e
from federation.contract.fields import END
from federation.protocol.records import Role

_LONGEST_SECONDS = 3650 * 86400


class TokenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A token without its digest; ``clusters`` is null where it is good for all; times are Unix seconds."""

    id: str
    name: str
    role: Role
    clusters: list[str] | None
    created_by: str | None
    created_at: float
    expires_at: float
    revoked_at: float | None


class NewToken(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token of which the caller keeps the secret: ``id`` and the SHA-256 of the secret are of the caller's making."""

    id: Annotated[str, Meta(pattern="^[0-9a-f]{32}" + END, description="Id of a token.")]
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}" + END, description="Whose it is.")]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}" + END, description="SHA-256 of its secret, in hexadecimal.")]
    role: Role
    lifetime_seconds: Annotated[float, Meta(gt=0, le=_LONGEST_SECONDS, description="Until it expires, from now on.")]
    clusters: Annotated[list[ClusterName], Meta(min_length=1, max_length=1000)] | None = None


def routes() -> list[Route]:
    """The request's own token; and all tokens."""
    return [
        Route(
            method="GET", path="/v1/token", name="show_own_token", tag="tokens", role=Role.READER, reply=TokenFacts,
            summary="Show what the token of this request is good for.", codes=codes(),
            work=lambda call: _facts(msgspec.to_builtins(call.token)),
        ),
        Route(
            method="GET", path="/v1/tokens", name="list_tokens", tag="tokens", role=Role.ADMIN, reply=list[TokenFacts],
            summary="List the tokens, oldest first.", codes=codes(),
            work=lambda call: [_facts(token) for token in _of_all_clusters(call).ask("tokens")],
        ),
        Route(
            method="POST", path="/v1/tokens", name="add_token", tag="tokens", role=Role.ADMIN, reply=TokenFacts, status=201,
            summary="Take up a token of which the caller keeps the secret.", body=NewToken, codes=codes(e.AlreadyExists),
            work=_add,
        ),
        Route(
            method="POST", path="/v1/tokens/{token}/revoke", name="revoke_token", tag="tokens", role=Role.ADMIN,
            summary="Revoke a token: it is refused from the next request on.", reply=TokenFacts, body=Body, codes=READS_ONE,
            work=lambda call: _facts(_of_all_clusters(call).ask("revoke_token", token=call.path["token"])),
        ),
    ]  # fmt: skip


def _add(call: Call) -> dict[str, Any]:
    token = msgspec.to_builtins(call.body)
    return _facts(_of_all_clusters(call).ask("add_token", created_by=call.asker, **token))


def _of_all_clusters(call: Call) -> Call:
    """Who administers some clusters would make tokens for the others."""
    if call.token.clusters is not None:
        raise forbidden("tokens are kept by an admin of all clusters, the token is good for some only")
    return call


def _facts(token: dict[str, Any]) -> dict[str, Any]:
    return {name: token.get(name) for name in TokenFacts.__struct_fields__}
