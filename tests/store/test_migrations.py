from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from store.making import cluster, new_operation

from federation.store import SchemaMismatch, open_store
from federation.store.engines import Limits, open_engines
from federation.store.migrate import HEAD, MIGRATIONS, check_schema, current_revision, downgrade, upgrade
from federation.store.tables import METADATA


@pytest.fixture
def connect(url, request):
    """Opens transactions on a database without any tables."""
    engines = open_engines(url, Limits())
    with engines.writing.begin() as connection:
        if current_revision(connection) is not None:
            downgrade(connection, "base")
    yield engines.writing.begin
    open_store(url).close()
    engines.dispose()


def tables(connection):
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_the_newest_revision_is_the_one_that_the_program_names():
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_the_migrations_make_exactly_the_tables_that_the_program_uses(connect):
    with connect() as connection:
        upgrade(connection)
    with connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
        assert differences == []
        found = {index["name"] for table in tables(connection) for index in inspect(connection).get_indexes(table)}
        wanted = {index.name for table in METADATA.tables.values() for index in table.indexes}
        assert wanted <= found


def test_every_revision_goes_down_and_up_again_with_data_in_it(connect, url):
    revisions = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    for revision in [*revisions[1:], "base"]:
        store = open_store(url)
        with store.transaction() as transaction:
            if transaction.cluster(cluster().name) is None:
                transaction.add_cluster(cluster())
            transaction.accept(new_operation())
        store.close()
        with connect() as connection:
            downgrade(connection, revision)
            assert current_revision(connection) == (None if revision == "base" else revision)
    with connect() as connection:
        assert tables(connection) == set()


def test_a_database_that_another_store_has_opened_keeps_its_data(store, open_another):
    again = open_another(migrate=False)
    with again.reading() as transaction:
        assert transaction.clusters() == [cluster()]


def test_without_migrations_an_empty_database_is_refused_and_left_empty(connect, url):
    with pytest.raises(SchemaMismatch, match=f"no tables.*{HEAD}.*migrations on"):
        open_store(url, migrate=False)
    with connect() as connection:
        assert tables(connection) == set()


def test_a_newer_schema_is_refused_and_left_alone(connect, url):
    open_store(url).close()
    with connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'r9999'"))
    with pytest.raises(SchemaMismatch, match=f"r9999.*{HEAD}.*upgrade this program"):
        open_store(url)
    with connect() as connection:
        assert current_revision(connection) == "r9999"
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{HEAD}'"))


def test_a_migration_that_fails_leaves_nothing(connect):
    def upgrade_and_fail():
        with connect() as connection:
            upgrade(connection)
            check_schema(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upgrade_and_fail()
    with connect() as connection:
        assert tables(connection) == set()
        assert current_revision(connection) is None


def test_several_managers_may_start_at_once_on_an_empty_database(connect, url):
    start = threading.Barrier(3)

    def opening(_number):
        start.wait(10)
        open_store(url).close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(opening, range(3)))
    with connect() as connection:
        check_schema(connection)
