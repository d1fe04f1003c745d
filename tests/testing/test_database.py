"""The file that plays the hypervisor: one writer at a time, everything or nothing, and a log that nobody rewrites."""

from __future__ import annotations

import threading

import pytest
from testing.scenarios import INSTANCE, do, spec

from federation.contract import requests as r
from federation.contract.errors import HypervisorUnreachable
from federation.testing.hypervisor.database import Database


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "state")
    with database.transaction() as connection:
        connection.execute("INSERT INTO facts VALUES ('count', '0')")
    yield database
    database.close()


def count(connection):
    return int(connection.execute("SELECT value FROM facts WHERE name = 'count'").fetchone()[0])


def write(connection, value):
    connection.execute("UPDATE facts SET value = ? WHERE name = 'count'", (str(value),))


def test_who_reads_in_order_to_write_makes_every_other_writer_wait(database, tmp_path):
    def add_one():
        other = Database(tmp_path / "state")
        with other.transaction() as connection:
            write(connection, count(connection) + 1)
        other.close()

    thread = threading.Thread(target=add_one)
    with database.transaction() as connection:
        seen = count(connection)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        write(connection, seen + 1)
    thread.join(30)
    with database.reading() as connection:
        assert count(connection) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_ends_with_an_error_leaves_nothing_and_lets_others_write(error, database):
    def write_and_fail():
        with database.transaction() as connection:
            write(connection, 7)
            raise error

    with pytest.raises(error):
        write_and_fail()
    with database.transaction() as connection:
        assert count(connection) == 0


def test_a_fault_of_the_file_is_a_hypervisor_that_does_not_answer(database):
    with pytest.raises(HypervisorUnreachable), database.transaction() as connection:
        connection.execute("SELECT * FROM nonsense")
    with pytest.raises(HypervisorUnreachable), database.reading() as connection:
        connection.execute("SELECT * FROM nonsense")


@pytest.mark.parametrize("rewriting", ["UPDATE effects SET kind = 'other'", "DELETE FROM effects"])
def test_the_effect_log_only_grows(rewriting, driver, tmp_path):
    do(driver, r.Create(instance=INSTANCE, spec=spec()))
    database = Database(tmp_path / "state")
    with pytest.raises(HypervisorUnreachable, match="append-only"), database.transaction() as connection:
        connection.execute(rewriting)
    database.close()
