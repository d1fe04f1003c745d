"""The file of contexts: which managers a person has logged in to, with the token for each.

It is ``$XDG_CONFIG_HOME/federation/contexts.json`` (``~/.config`` if not set), and only its owner may read it.  It is
replaced as a whole, one writer at a time, so that nobody ever reads a half of it and no login is lost to another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

LOCAL = "local"
"""The name that stands for no context: the broker of the configuration, as on a manager's own host."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_LARGEST_BYTES = 1 << 20


class ContextError(Exception):
    """The contexts cannot be used so; the message says what has to change."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """One manager, or several behind one URL; ``ca_file`` are the authorities to trust, None the system's."""

    url: str
    token: str
    ca_file: str | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Context(url={self.url!r}, ca_file={self.ca_file!r})"


class Contexts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All contexts by name; ``current`` is used where nothing else is said."""

    current: str | None = None
    contexts: dict[str, Context] = {}

    def named(self, name: str) -> Context:
        """The context of this name; raises ContextError."""
        try:
            return self.contexts[name]
        except KeyError:
            known = ", ".join(sorted(self.contexts)) or "none"
            raise ContextError(
                f"there is no context {name!r}; there are: {known}; federation login URL --name {name} makes it"
            ) from None


def contexts_path(environment: Mapping[str, str]) -> Path:
    """Where the file is, by the XDG base directory specification, which ignores a path that is not absolute."""
    told = Path(environment.get("XDG_CONFIG_HOME", ""))
    folder = told if told.is_absolute() else Path.home() / ".config"
    return folder / "federation" / "contexts.json"


def check_name(name: str) -> str:
    """Refuse a name that cannot be one."""
    if name == LOCAL:
        raise ContextError(f"a context cannot be named {LOCAL!r}: that means the configured broker, without a context")
    if not _NAME.fullmatch(name):
        raise ContextError(f"context name is {name!r}, expected 1 to 63 letters, digits, '.', '_' or '-'")
    return name


def check_url(url: str, *, plain: bool = False) -> str:
    """A manager's URL without a slash at its end; refuses what is none, and clear text beyond this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ContextError(f"the manager's URL is {url!r}: {error}") from error
    if parts.username or parts.password:
        raise ContextError("the manager's URL holds a login; tokens are asked for, or read from --token-file")
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment or not url.isprintable():
        raise ContextError(f"the manager's URL is {url!r}, expected https://HOST:PORT such as https://manager:8780")
    if parts.scheme == "http" and not plain and not _is_this_machine(host):
        raise ContextError(f"{host} is another machine and the token would travel in clear: use https, or say --plain")
    return url.rstrip("/")


def read_contexts(path: Path) -> Contexts:
    """The contexts; none where there is no file.  Raises ContextError for a file that others may read, or that is none."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ContextError(f"{path} holds tokens and others may use it (mode {mode:04o}): chmod 600 {path}")
            return msgspec.json.decode(file.read(_LARGEST_BYTES), type=Contexts)
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ContextError(f"{path} cannot be read: {error}; move it away and log in again") from error


@contextlib.contextmanager
def changing(path: Path) -> Iterator[list[Contexts]]:
    """The contexts in a list of one, whose element the caller replaces; written when the block ends."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = [read_contexts(path)]
            yield held
            _write(path, msgspec.json.format(msgspec.json.encode(held[0]), indent=2))
    except OSError as error:
        raise ContextError(f"{path} cannot be written: {error.strerror or error}") from error


def _write(path: Path, content: bytes) -> None:
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            Path(beside).unlink()
        raise


def _is_this_machine(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
