"""Tokens of the REST interface: who bears one, what it allows, until when.

Rules:

1. A token is ``fed_<id>_<secret>``; the secret has 256 random bits, so one round of SHA-256 keeps it as well as a slow hash.
2. Whoever makes a token keeps the secret; the manager is given its digest, and neither bus nor store ever carries more.
3. What is wrong with a token is not told apart to who bears it: unknown, expired, revoked and wrong all look alike.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

import uuid_utils

from federation.contract.errors import InvalidRequest
from federation.manager.clocks import Clock
from federation.manager.gathering import Gathering
from federation.manager.store_ports import Store
from federation.protocol.records import Role, SavedReply, TokenRecord

_TOKEN = re.compile(r"fed_([0-9a-f]{32})_([A-Za-z0-9_-]{43})", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LONGEST_SECONDS = 3650 * 86400.0
_REPLIES_KEPT_SECONDS = 86400.0
_LONGEST_REQUEST_SECONDS = 60.0
_MOST_TOGETHER = 32
_ABREAST = 2
_RANK = {Role.READER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}


def new_token() -> tuple[str, str, str]:
    """(token, its id, the digest of its secret) of a token that nobody else has; the first is shown once."""
    identity, secret = uuid_utils.uuid7().hex, secrets.token_urlsafe(32)
    return f"fed_{identity}_{secret}", identity, _digest(secret)


def allows(role: Role, needed: Role) -> bool:
    """Whether a role may do what needs another."""
    return _RANK[role] >= _RANK[needed]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    """The use cases around tokens, and the replies that are kept for them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._looking = Gathering(self._records, most=_MOST_TOGETHER, abreast=_ABREAST)

    def add(self, token: TokenRecord, lifetime_seconds: float) -> TokenRecord:
        """Take up a token that was made with ``new_token``; raises InvalidRequest, AlreadyExists."""
        if not _NAME.fullmatch(token.name):
            raise InvalidRequest(
                f"token name is {token.name!r}, expected 1 to 63 letters, digits, '.', '_', '@' or '-'", field="name"
            )
        if not _ID.fullmatch(token.id) or not _DIGEST.fullmatch(token.digest):
            raise InvalidRequest("id or digest of the token are not what federation token create makes", field="digest")
        if not 0 < lifetime_seconds <= _LONGEST_SECONDS:
            raise InvalidRequest(
                f"a token lives {lifetime_seconds:g} s, expected more than 0 and at most {_LONGEST_SECONDS:.0f}",
                field="lifetime_seconds",
            )
        now = self._clock.wall()
        made = TokenRecord(
            id=token.id,
            name=token.name,
            digest=token.digest,
            role=token.role,
            clusters=token.clusters,
            created_by=token.created_by,
            created_at=now,
            expires_at=now + lifetime_seconds,
        )
        with self._store.transaction() as transaction:
            transaction.add_token(made)
        return made

    def tokens(self) -> list[TokenRecord]:
        """All tokens, oldest first."""
        with self._store.reading() as transaction:
            return transaction.tokens()

    def revoke(self, token: str) -> TokenRecord:
        """Revoke a token by its id, from the next request on; raises NotFound."""
        with self._store.transaction() as transaction:
            transaction.revoke_token(token, self._clock.wall())
            (record,) = (each for each in transaction.tokens() if each.id == token)
        return record

    def bearer(self, token: str) -> TokenRecord | None:
        """Whose token this is, None unless it is good now."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        identity, secret = match.groups()
        record = self._looking.ask(identity)
        if record is None or not hmac.compare_digest(record.digest, _digest(secret)):
            return None
        good = record.revoked_at is None and self._clock.wall() < record.expires_at
        return record if good else None

    def _records(self, ids: Sequence[str]) -> list[TokenRecord | None]:
        """Requests that come together look once; each look begins after its requests have come."""
        with self._store.glancing() as transaction:
            found = transaction.tokens_by_id(ids)
        return [found.get(identity) for identity in ids]

    def claim_key(self, token: str, idempotency_key: str, fingerprint: str) -> SavedReply | None:
        """Claim a token's key for a request, and forget what is older than a day.

        None when it is the first with this key; otherwise what is known of the first: its reply, or that it is under way.
        """
        claim = self._reply(token, idempotency_key, fingerprint, SavedReply.UNDER_WAY, "")
        with self._store.transaction() as transaction:
            transaction.forget_replies(claim.created_at - _REPLIES_KEPT_SECONDS)
            return transaction.claim_key(claim)

    def give_key_up(self, token: str, idempotency_key: str) -> None:
        """The request that claimed the key has failed, and surely did nothing."""
        with self._store.transaction() as transaction:
            transaction.give_key_up(token, idempotency_key)

    def is_under_way(self, claimed: SavedReply) -> bool:
        """Whether the request that claimed a key may still be carried out; after a minute it is taken for lost."""
        return self._clock.wall() < claimed.created_at + _LONGEST_REQUEST_SECONDS

    def keep_reply(self, token: str, idempotency_key: str, fingerprint: str, status: int, body: str) -> None:
        """Keep the reply to the request that claimed the key for a day."""
        saved = self._reply(token, idempotency_key, fingerprint, status, body)
        with self._store.transaction() as transaction:
            transaction.save_reply(saved)

    def _reply(self, token: str, idempotency_key: str, fingerprint: str, status: int, body: str) -> SavedReply:
        return SavedReply(
            token=token,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            status=status,
            body=body,
            created_at=self._clock.wall(),
        )
