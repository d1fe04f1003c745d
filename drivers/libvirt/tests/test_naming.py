"""Names on the hypervisor."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from federation_libvirt import names

ids = st.uuids().map(str)
checksums = st.from_regex(r"\A(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")
A, B = str(UUID(int=1)), str(UUID(int=2))
SUM = "sha256:" + "ab" * 32


@given(ids, checksums, st.integers(1, 99), st.sampled_from(["qcow2", "raw", "file"]), st.integers(0, 1 << 50))
def test_a_cached_file_is_found_by_its_checksum_once_it_is_marked_ready(instance, checksum, attempt, kind, size):
    content = names.cached_content(checksum, instance, attempt)
    mark = names.ready_mark(content, kind, size)
    assert names.cached_files(checksum, [content]) == []
    assert names.unfinished_fetches(instance, [content]) == [content]
    assert names.cached_files(checksum, [content, mark]) == [names.CachedFile(content, kind, size)]
    assert names.unfinished_fetches(instance, [content, mark]) == []
    assert names.cached_files(checksum, [mark]) == []
    assert len(mark) < 255


@given(ids)
def test_everything_of_an_instance_is_found_from_its_id_and_nothing_else_is(instance):
    own = [
        names.root_disk(instance),
        names.data_disk(instance, 3),
        names.guest_setup(instance),
        names.console_log(instance),
        names.console_log(instance) + ".0",
    ]
    assert all(names.belongs_to(instance, name) for name in own)
    other = "f" * 8 + instance[8:] if instance[:8] != "f" * 8 else "0" * 8 + instance[8:]
    assert not any(names.belongs_to(other, name) for name in own)
    assert not names.belongs_to(instance, names.cached_content(SUM, instance, 1))


def test_unfinished_fetches_are_those_of_one_instance_only():
    mine, other = names.cached_content(SUM, A, 1), names.cached_content(SUM, B, 1)
    assert names.unfinished_fetches(A, [mine, other, names.root_disk(A)]) == [mine]


@given(st.lists(st.tuples(ids, st.integers(0, 15)), min_size=2, max_size=20, unique=True))
def test_mac_addresses_are_unicast_and_derived(pairs):
    macs = [names.mac_address(*pair) for pair in pairs]
    assert macs == [names.mac_address(*pair) for pair in pairs]
    assert all(mac.startswith("52:54:00:") and len(mac) == 17 for mac in macs)


@given(
    st.uuids(), st.integers(1, 1 << 50), st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,30}[A-Za-z0-9])?", fullmatch=True)
)
def test_a_template_is_found_by_its_whole_name_once_it_is_complete(operation, size, name):
    content, mark = names.template_content(name, str(operation)), names.template_mark(name, str(operation), size)
    assert names.templates(name, [content]) == names.templates(name, [mark]) == []
    assert names.templates(name, [mark, content]) == [names.Template(content, str(operation), size)]
    assert names.templates(name + "x", [mark, content]) == []


@given(st.uuids())
def test_every_name_that_the_driver_gives_is_reserved_and_an_operators_is_not(identity):
    own = str(identity)
    given_names = (
        names.root_disk(own),
        names.console_log(own),
        names.capture(own, own),
        names.cached_content("sha256:00", own, 1),
        names.template_content("golden", own),
        names.maintenance_mark("lab"),
    )
    assert all(map(names.reserved, given_names))
    assert not any(map(names.reserved, ("vol-a", f"x{own}-root.qcow2", own, "data", "cache")))
