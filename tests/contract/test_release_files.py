"""A frozen release never changes, and a tree that broke it cannot be released."""

import copy
import json
import shutil
from pathlib import Path

import pytest

from federation.contract.evolution.checking import FILE_RULES, check, is_broken, may_freeze
from federation.contract.evolution.frozen import ReleaseFiles, release_text
from federation.contract.evolution.rule_book import Weight
from federation.contract.page import PAGES, main
from federation.contract.release import CURRENT, Release, snapshot

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Release files and pages of their own, nothing frozen."""
    for page in PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    monkeypatch.chdir(tmp_path)
    return ReleaseFiles(tmp_path / "releases")


@pytest.fixture
def frozen(files):
    assert main(["--freeze"], files) is None
    return files


def rules(found):
    return [(str(release), finding.rule) for release, findings in found.items() for finding in findings]


def tree(release=CURRENT, **parts):
    return {**copy.deepcopy(snapshot()), "release": str(release), **parts}


def test_nothing_is_compared_before_a_release_is_frozen(files):
    files.write_draft()
    assert check(files) == {}
    assert json.loads(files.path(CURRENT).read_text())["status"] == "draft"


def test_a_release_is_frozen_by_one_command_and_then_equals_the_tree(frozen):
    assert frozen.frozen() == [CURRENT]
    assert frozen.read(CURRENT)["status"] == "frozen"
    assert check(frozen) == {CURRENT: []}


def test_a_frozen_release_is_neither_frozen_nor_written_again(frozen):
    before = frozen.path(CURRENT).read_bytes()
    assert "frozen already" in main(["--freeze"], frozen)
    assert main([], frozen) is None
    assert frozen.path(CURRENT).read_bytes() == before != release_text().encode()


def test_a_release_that_breaks_a_frozen_one_is_not_frozen(files):

    broken = tree(CURRENT)
    broken["errors"]["lost_code"] = dict.fromkeys(("fault", "effect", "next_move"), "x")
    put_frozen(files, CURRENT, broken)
    (files.folder / "digests.json").write_text(json.dumps({str(CURRENT): files.digest(CURRENT)}))
    assert any("lost_code" in reason for reason in may_freeze(files))
    assert "lost_code" in main(["--freeze"], files)


def put_frozen(files, release, contract):
    files.folder.mkdir(exist_ok=True)
    files.path(release).write_text(json.dumps({**contract, "status": "frozen"}))
    digests = {**{str(each): digest for each, digest in files.digests().items()}, str(release): files.digest(release)}
    (files.folder / "digests.json").write_text(json.dumps(digests))


def test_an_edited_file_of_a_frozen_release_is_noticed(frozen):
    path = frozen.path(CURRENT)
    path.write_text(path.read_text().replace('"Halt the processors, keep the memory."', '"Halt."'))
    found = check(frozen)
    assert (str(CURRENT), "frozen-file-edited") in rules(found)
    assert is_broken(found)


def test_a_frozen_release_whose_file_is_gone_is_noticed(frozen):
    frozen.path(CURRENT).unlink()
    assert rules(check(frozen)) == [(str(CURRENT), "frozen-file-missing")]


def test_a_frozen_release_whose_digest_is_gone_is_noticed(frozen):
    (frozen.folder / "digests.json").write_text("{}")
    assert rules(check(frozen)) == [(str(CURRENT), "frozen-digest-missing")]


def test_not_even_an_addition_goes_into_a_frozen_release(frozen):
    changed = tree()
    changed["capabilities"]["teleport"] = "x"
    found = check(frozen, changed)
    assert rules(found) == [(str(CURRENT), "frozen-release-changed")]
    assert f"release {Release(CURRENT.major, CURRENT.minor + 1)}" in found[CURRENT][0].action


def test_words_may_be_mended_in_a_frozen_release(frozen):
    changed = tree()
    changed["operations"][0]["summary"] = "Better words."
    found = check(frozen, changed)
    assert rules(found) == [(str(CURRENT), "summary-changed")]
    assert not is_broken(found)


def test_an_addition_goes_into_the_next_release(frozen):
    changed = tree(Release(CURRENT.major, CURRENT.minor + 1))
    changed["capabilities"]["teleport"] = "x"
    found = check(frozen, changed)
    assert rules(found) == [(str(CURRENT), "capability-added")]
    assert not is_broken(found)


def test_every_frozen_release_of_the_major_is_compared(frozen):
    second = tree(Release(CURRENT.major, CURRENT.minor + 1))
    second["errors"]["asleep"] = dict.fromkeys(("fault", "effect", "next_move"), "x")
    put_frozen(frozen, Release(CURRENT.major, CURRENT.minor + 1), second)
    third = tree(Release(CURRENT.major, CURRENT.minor + 2))
    found = check(frozen, third)
    assert rules(found) == [(f"{CURRENT.major}.{CURRENT.minor + 1}", "error-removed")]
    assert check(frozen, tree(Release(CURRENT.major + 1, 0))) == {}


def test_file_rules_are_those_of_the_page():
    page = (ROOT / "docs/explanation/evolution.md").read_text()
    assert [name for name in FILE_RULES if f"`{name}`" not in page] == []


def test_this_tree_breaks_no_frozen_release():
    found = check()
    assert [f for findings in found.values() for f in findings if f.weight is Weight.BREAK] == []
