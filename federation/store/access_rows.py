"""Who may use the REST interface, and what it replied to requests that bear an idempotency key."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select, update

from federation.contract.errors import AlreadyExists, NotFound
from federation.protocol.records import Role, SavedReply, TokenRecord
from federation.store.encoding import text_of
from federation.store.session import Session, insert_into, insert_unless_there
from federation.store.tables import REPLIES, TOKENS

_TOKEN = TOKENS.c
_REPLY = REPLIES.c
_ONE = select(TOKENS).where(_TOKEN.id == bindparam("id"))
_SOME = select(TOKENS).where(_TOKEN.id.in_(bindparam("ids", expanding=True)))
_ALL = select(TOKENS).order_by(_TOKEN.id)
_SAVED = select(REPLIES).where(_REPLY.token == bindparam("token"), _REPLY.idempotency_key == bindparam("key"))
_IS_UNDER_WAY = _REPLY.status == SavedReply.UNDER_WAY
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode


class AccessRows(Session):
    """The port ``AccessTables`` of federation.manager.store_ports."""

    def add_token(self, token: TokenRecord) -> None:
        """Add, or raise AlreadyExists when the id is taken."""
        row = {**msgspec.structs.asdict(token), "role": token.role.value}
        row["clusters"] = None if token.clusters is None else text_of(token.clusters)
        if self._row(insert_unless_there(self._dialect, TOKENS, _TOKEN.id), row) is None:
            raise AlreadyExists(f"there is a token {token.id} already", token=token.id)

    def tokens_by_id(self, ids: Collection[str]) -> dict[str, TokenRecord]:
        """Those of these tokens that are there, by id."""
        return {row.id: _token(row) for row in self._rows_in(_SOME, "ids", ids)}

    def tokens(self) -> list[TokenRecord]:
        """All tokens by id, which is by age."""
        return [_token(row) for row in self._rows(_ALL)]

    def revoke_token(self, token: str, now: float) -> None:
        """Revoke; one that is revoked stays as it is; NotFound when it is not known."""
        if self._row(_ONE, {"id": token}) is None:
            raise NotFound(f"there is no token {token}", token=token)
        self._execute(update(TOKENS).where(_TOKEN.id == token, _TOKEN.revoked_at.is_(None)).values(revoked_at=now))

    def claim_key(self, claim: SavedReply) -> SavedReply | None:
        """Write that a request with this key is under way; what stands there instead when the key was used before."""
        statement = insert_unless_there(self._dialect, REPLIES, _REPLY.token)
        if self._row(statement, msgspec.structs.asdict(claim)) is not None:
            return None
        return self.saved_reply(claim.token, claim.idempotency_key)

    def saved_reply(self, token: str, idempotency_key: str) -> SavedReply | None:
        """What is known of this key of this token."""
        row = self._row(_SAVED, {"token": token, "key": idempotency_key})
        return None if row is None else SavedReply(**row._asdict())

    def save_reply(self, reply: SavedReply) -> None:
        """Keep the reply of a request that was under way; the first one of a key stays."""
        row = msgspec.structs.asdict(reply)
        told = {name: row[name] for name in ("status", "body")}
        statement = insert_into(self._dialect, REPLIES).values(row)
        same = (_REPLY.token, _REPLY.idempotency_key)
        self._execute(statement.on_conflict_do_update(index_elements=same, set_=told, where=_IS_UNDER_WAY))

    def give_key_up(self, token: str, idempotency_key: str) -> None:
        """The request that was under way has failed: its key may be used again."""
        mine = (_REPLY.token == token, _REPLY.idempotency_key == idempotency_key)
        self._execute(delete(REPLIES).where(*mine, _IS_UNDER_WAY))

    def forget_replies(self, before: float) -> None:
        """Forget what was replied before this time (Unix seconds)."""
        self._execute(delete(REPLIES).where(_REPLY.created_at < before))


def _token(row: Any) -> TokenRecord:
    fields = row._asdict()
    clusters = fields.pop("clusters")
    role = Role(fields.pop("role"))
    return TokenRecord(clusters=None if clusters is None else _decode_names(clusters), role=role, **fields)
