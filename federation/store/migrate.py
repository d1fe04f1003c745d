"""Brings the tables to this release, or says why it may not.

The whole upgrade is one transaction of the writing connection: on SQLite under its write lock, on PostgreSQL under an
advisory lock, so that any number of managers may start at once.  Both databases undo table changes with the
transaction.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table, text

from federation.store.errors import SchemaMismatch

# Alembic is imported where tables are changed: it takes a fifth of a manager's start, and most starts change none.
if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script

HEAD = "r0006"
"""The newest revision; it lets an up-to-date store open without reading the migration scripts."""

_ADVISORY_LOCK = 0x66656465726174  # "federat"
MIGRATIONS = Path(__file__).parent / "migrations"
_VERSIONS = table("alembic_version", column("version_num"))


def upgrade(connection: Connection, to: str = "head") -> None:
    """Upgrade older or missing tables; newer ones are left alone (``check_schema`` refuses them)."""
    if current_revision(connection) == HEAD and to == "head":
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))  # a migration may take longer than a question
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    current = current_revision(connection)
    if current is None or current in known_revisions():
        from alembic import command  # noqa: PLC0415

        command.upgrade(_config(connection), to)


def downgrade(connection: Connection, to: str) -> None:
    """Go back to an older revision (``base``: no tables); what only newer tables can hold is lost."""
    from alembic import command  # noqa: PLC0415

    command.downgrade(_config(connection), to)


def check_schema(connection: Connection) -> None:
    """Raise SchemaMismatch unless the tables are of this release."""
    current = current_revision(connection)
    if current == HEAD:
        return
    if current is None or current in known_revisions():
        state = "no tables" if current is None else f"tables of the older revision {current}"
        raise SchemaMismatch(f"the database has {state}, this program needs {HEAD}: open it once with migrations on")
    raise SchemaMismatch(
        f"the database has tables of revision {current}, this program knows up to {HEAD}: upgrade this program"
    )


def current_revision(connection: Connection) -> str | None:
    """The revision of the tables, None when there are none."""
    if not inspect(connection).has_table(_VERSIONS.name):
        return None
    revision: str | None = connection.execute(select(_VERSIONS.c.version_num)).scalar()
    return revision


def known_revisions() -> set[str]:
    """Every revision that this program has a migration for."""
    return {script.revision for script in scripts()}


def scripts() -> list[Script]:
    """The migrations, newest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())


def _config(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
