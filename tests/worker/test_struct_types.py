"""Struct types are ready before threads share them."""

import subprocess
import sys
import textwrap

import msgspec
from worker.tiny_driver import TinyDriver
from worker.world import World

from federation.contract.struct_types import prepare_types

RACE = textwrap.dedent("""
    import sys, textwrap, threading, types
    import msgspec
    from federation.contract.struct_types import prepare_types

    SOURCE = '''
    from __future__ import annotations
    import msgspec
    from typing import Annotated
    class Inner(msgspec.Struct, frozen=True):
        number: Annotated[int, msgspec.Meta(ge=1)] = 1
        word: Annotated[str, msgspec.Meta(pattern="^a")] = "a"
    class Middle(msgspec.Struct, frozen=True):
        inner: Inner
        more: tuple[Inner, ...] = ()
        map: dict[str, int] = {}
    class Outer(msgspec.Struct, frozen=True):
        middle: Middle
    '''
    sys.setswitchinterval(1e-6)
    for number in range(100):
        module = types.ModuleType(f"fresh_{number}")
        sys.modules[module.__name__] = module
        exec(textwrap.dedent(SOURCE), module.__dict__)
        prepare_types()
        barrier, results = threading.Barrier(8), []

        def decode():
            barrier.wait()
            results.append(msgspec.convert({"middle": {"inner": {"number": 2}, "more": [{"word": "ab"}]}}, module.Outer))

        threads = [threading.Thread(target=decode) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
""")


def test_prepared_types_can_be_decoded_into_by_many_threads_at_once():
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_a_worker_prepares_every_type_that_is_imported_before_it_starts_a_thread():
    world = World()
    world.worker(TinyDriver())
    world.io.close()
    assert prepare_types() == 0


def test_a_type_that_cannot_be_resolved_is_left_alone():
    class Unresolvable(msgspec.Struct):
        what: "NoSuchName"  # noqa: F821

    assert prepare_types() >= 1
    assert prepare_types() == 0
