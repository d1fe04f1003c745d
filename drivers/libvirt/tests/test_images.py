"""Where images may come from."""

from __future__ import annotations

import hashlib

import pytest

from federation.contract.errors import ImageRejected, ImageUnavailable, InvalidRequest
from federation_libvirt.images import CHUNK_BYTES, Expected, Reading, check_allowed, printable
from federation_libvirt.settings import ImageRules

WEB = ImageRules(schemes=frozenset({"https", "http"}), hosts=("images.example.org", "*.mirror.example.net"))


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org/a.qcow2",
        "https://IMAGES.example.org:8443/a",
        "http://eu.mirror.example.net/a",
        "http://a.b.mirror.example.net/a",
    ],
)
def test_a_listed_place_is_allowed(url):
    check_allowed(url, WEB)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a",
        "https://images.example.org.evil.test/a",
        "https://mirror.example.net/a",
        "https://evilmirror.example.net/a",
        "https://images.example.org@evil.test/a",
        "https://user:secret@images.example.org/a",
        "https:///a",
        "ftp://images.example.org/a",
        "file:///etc/passwd",
        "gopher://images.example.org/",
    ],
)
def test_every_other_place_is_refused_without_showing_a_secret(url):
    with pytest.raises(InvalidRequest) as caught:
        check_allowed(url, WEB)
    assert "secret" not in caught.value.message


def test_nothing_is_allowed_unless_it_is_listed():
    with pytest.raises(InvalidRequest, match="allowed: none"):
        check_allowed("https://images.example.org/a", ImageRules())
    with pytest.raises(InvalidRequest, match="scheme ftp"):
        check_allowed("ftp://x/a", ImageRules(schemes=frozenset({"ftp"}), hosts=("*",)))


def test_a_star_allows_every_host_that_has_a_name():
    everywhere = ImageRules(hosts=("*",))
    check_allowed("https://anything.test/a", everywhere)
    with pytest.raises(InvalidRequest):
        check_allowed("https:///a", everywhere)


def test_files_are_taken_from_listed_directories_only_also_through_links(tmp_path):
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    allowed.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (allowed / "link").symlink_to(outside / "secret")
    (allowed / "image").write_bytes(b"x")
    rules = ImageRules(schemes=frozenset({"file"}), directories=(str(allowed),))
    check_allowed(f"file://{allowed}/image", rules)
    check_allowed(f"file://localhost{allowed}/none%20such", rules)
    for path in (
        f"{outside}/secret",
        f"{allowed}/../outside/secret",
        f"{allowed}/link",
        f"{allowed}-not",
        f"{allowed}/%00",
    ):
        with pytest.raises(InvalidRequest):
            check_allowed(f"file://{path}", rules)
    with pytest.raises(InvalidRequest, match="may not name a host"):
        check_allowed(f"file://elsewhere{allowed}/image", rules)


def test_what_is_printed_of_a_url_has_neither_user_nor_query():
    assert printable("https://u:p@host:1/a/b?token=secret#x") == "https://host:1/a/b"


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"0123456789abcdef" * ((2 * CHUNK_BYTES + 64) // 16))
    return path, ImageRules(schemes=frozenset({"file"}), directories=(str(tmp_path),))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_is_read_in_pieces_and_its_checksum_is_that_of_what_was_handed_on(big, algorithm):
    path, rules = big
    digest = hashlib.new(algorithm, path.read_bytes()).hexdigest()
    reading = Reading(Expected(f"file://{path}", f"{algorithm}:{digest}"), rules)
    pieces = list(reading.chunks())
    assert [len(piece) for piece in pieces] == [CHUNK_BYTES, CHUNK_BYTES, 64]
    assert b"".join(pieces) == path.read_bytes()
    assert (reading.length, reading.announced) == (path.stat().st_size,) * 2


def test_a_wrong_checksum_is_told_after_the_last_piece_and_names_both(big):
    path, rules = big
    chunks = Reading(Expected(f"file://{path}", "sha256:" + "0" * 64), rules).chunks()
    assert len([next(chunks), next(chunks), next(chunks)]) == 3
    with pytest.raises(ImageRejected) as caught:
        next(chunks)
    assert caught.value.detail["found"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert caught.value.detail["expected"] == "0" * 64


def test_a_directory_and_a_missing_file_are_unavailable(tmp_path):
    rules = ImageRules(schemes=frozenset({"file"}), directories=(str(tmp_path),))
    for url in (f"file://{tmp_path}", f"file://{tmp_path}/none"):
        with pytest.raises(ImageUnavailable, match="no such file"):
            next(Reading(Expected(url, "sha256:" + "0" * 64), rules).chunks())


def test_a_server_that_is_not_there_is_unavailable_after_a_few_tries():
    waits = []
    rules = ImageRules(schemes=frozenset({"http"}), hosts=("127.0.0.1",), timeout_seconds=2)
    reading = Reading(Expected("http://127.0.0.1:9/a?token=secret", "sha256:" + "0" * 64), rules, waits.append)
    with pytest.raises(ImageUnavailable) as caught:
        next(reading.chunks())
    assert len(waits) == 2
    assert "secret" not in caught.value.message
