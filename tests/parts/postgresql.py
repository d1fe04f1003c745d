"""A private PostgreSQL cluster on loopback, run by Debian's server binaries as an unprivileged user."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from pathlib import Path
from typing import Any

from parts.debian import install
from parts.processes import end, is_alive, kill, launch, run
from parts.state import (
    PartMissingError,
    accepts,
    free_ports,
    instance_folder,
    locked,
    read_facts,
    wait_until,
    write_facts,
)

USER = "federation"
DATABASE = "federation"
BINARIES = Path("/usr/lib/postgresql")


class PostgreSQL:
    """A PostgreSQL server that outlives this process."""

    def __init__(self) -> None:
        """Take the server of the current instance, running or not."""
        self.folder = instance_folder("postgresql")
        self.data = self.folder / "data"

    @property
    def facts(self) -> dict[str, Any]:
        """Port, password and process, as written down by the last command."""
        return read_facts(self.folder)

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the tests' database, by psycopg 3."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """SQLAlchemy's URL of one database."""
        facts = self.facts
        return f"postgresql+psycopg://{USER}:{facts['password']}@127.0.0.1:{facts['port']}/{database}"

    def status(self) -> dict[str, Any]:
        """How to reach the server, and whether it runs."""
        if not self.facts:
            return {"part": "postgresql", "running": False}
        facts = self.facts
        return {"part": "postgresql", "running": self._is_ready(), "url": self.url, "port": facts["port"]}

    def env(self) -> dict[str, str]:
        """Shell variables that name the database."""
        return {"FEDERATION_TEST_POSTGRESQL": self.url}

    def install(self) -> None:
        """Install PostgreSQL's server unless one is there."""
        if not BINARIES.exists():
            install("postgresql")

    def start(self) -> None:
        """Make the cluster if need be, start it, wait until it answers, and make the tests' database."""
        with locked(self.folder / "lock"):
            if not self.facts:
                self._make()
            if not is_alive(self.facts["process"]):
                self._launch()
            wait_until(self._is_ready_or_dead, 60, f"PostgreSQL, see {self.folder / 'server.log'}")
            self.add_database(DATABASE)

    def stop(self) -> None:
        """End the server without waiting for its clients (SIGINT is PostgreSQL's fast shutdown)."""
        end(self.facts.get("process"), how=signal.SIGINT)

    def restart(self) -> None:
        """End and start the server."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the server by SIGKILL; it recovers from its log at the next start."""
        kill(self.facts.get("process"))

    def add_database(self, name: str) -> str:
        """Make a database if it is not there, and return its URL."""
        if name not in self._sql("SELECT datname FROM pg_database").split():
            self._sql(f'CREATE DATABASE "{name}"')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and end its connections."""
        self._sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _sql(self, statement: str) -> str:
        facts = self.facts
        options = ["-h", "127.0.0.1", "-p", str(facts["port"]), "-U", USER, "-d", "postgres", "-tAqc", statement]
        return run([self._program("psql"), *options], env={**os.environ, "PGPASSWORD": facts["password"]}, seconds=30)

    def _make(self) -> None:
        self.install()
        password = secrets.token_hex(8)
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()
        secret = self.folder / "password"
        secret.write_text(password)
        if os.geteuid() == 0:
            for path in (self.data, secret):
                shutil.chown(path, "postgres", "postgres")
        self.data.chmod(0o700)
        secret.chmod(0o600)
        options = ["-D", str(self.data), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8"]
        run([*self._as_user(), self._program("initdb"), *options, "--locale=C.UTF-8"], cwd="/")
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
        with (self.data / "postgresql.conf").open("a") as handle:
            handle.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        write_facts(self.folder, {"port": free_ports(1, self.folder)[0], "password": password, "process": None})

    def _launch(self) -> None:
        facts = self.facts
        command = [*self._as_user(), self._program("postgres"), "-D", str(self.data), "-p", str(facts["port"])]
        facts["process"] = launch(command, self.folder / "server.log")
        write_facts(self.folder, facts)

    def _is_ready_or_dead(self) -> bool:
        if not is_alive(self.facts["process"]):
            # After a SIGKILL the orphaned backends hold the shared memory for a moment.
            self._launch()
        return self._is_ready()

    def _is_ready(self) -> bool:
        port = self.facts["port"]
        if not is_alive(self.facts["process"]) or not accepts(port):
            return False
        try:
            run([self._program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], seconds=10)
        except PartMissingError:
            return False  # it is still recovering
        return True

    @staticmethod
    def _as_user() -> list[str]:
        """PostgreSQL refuses to run as root."""
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []

    @staticmethod
    def _program(name: str) -> str:
        found = sorted(BINARIES.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
        if not found:
            raise PartMissingError(f"PostgreSQL's {name} is not installed (Debian package postgresql)")
        return str(found[-1])
