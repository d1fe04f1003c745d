"""Drivers are found by name, and their settings read strictly."""

from importlib.metadata import EntryPoint
from typing import ClassVar

import msgspec
import pytest
from worker.tiny_driver import TinyDriver

from federation.contract.errors import HypervisorUnreachable
from federation.contract.release import CURRENT, LOWEST
from federation.worker.drivers import GROUP, find_driver, open_driver, read_settings, served_by
from federation.worker.errors import DriverNotUsable, SettingsInvalid


class Host(msgspec.Struct, frozen=True):
    uri: str
    password: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    hosts: tuple[Host, ...] = ()
    retries: int = 3


class Good(TinyDriver):
    settings: ClassVar[type[msgspec.Struct]] = Settings

    @classmethod
    def open(cls, settings, cluster):
        return cls()


class Lacking:
    settings = Settings


class OpensNever(Good):
    @classmethod
    def open(cls, settings, cluster):
        raise ValueError(f"cannot log in with {settings.hosts[0].password}")


class Unreachable(Good):
    @classmethod
    def open(cls, settings, cluster):
        raise HypervisorUnreachable(f"no answer to {settings.hosts[0].password} at {settings.hosts[0].uri}")


class UpsideDown(Good):
    def description(self):
        return msgspec.structs.replace(super().description(), releases=("1.1", "1.0"))


class Talks(Good):
    def description(self):
        return {"driver": "x"}


class Distribution:
    def __init__(self, name):
        self.name = name


def point(name, value, distribution="d"):
    made = EntryPoint(name, value, GROUP)
    vars(made)["dist"] = Distribution(distribution)
    return made


HERE = __name__


def test_a_driver_is_found_by_its_name():
    assert find_driver("good", [point("good", f"{HERE}:Good")]) is Good


def test_an_unknown_driver_is_answered_with_the_names_of_those_installed():
    installed = [point("kvm", "x:Y"), point("esx", "x:Z")]
    with pytest.raises(DriverNotUsable, match=r"'hyperv'; installed are: esx, kvm"):
        find_driver("hyperv", installed)
    with pytest.raises(DriverNotUsable, match="installed are: none"):
        find_driver("hyperv", [])


def test_two_distributions_that_provide_one_name_are_refused_and_named():
    installed = [point("good", f"{HERE}:Good", "one"), point("good", f"{HERE}:Good", "two")]
    with pytest.raises(DriverNotUsable, match="one, two"):
        find_driver("good", installed)


def test_one_distribution_found_twice_on_the_path_is_no_conflict():
    assert find_driver("good", [point("good", f"{HERE}:Good")] * 2) is Good


@pytest.mark.parametrize(
    ("value", "words"),
    [("no_such_module:X", "ModuleNotFoundError"), (f"{HERE}:Absent", "Absent"), (f"{HERE}:Lacking", "open")],
)
def test_a_driver_that_cannot_be_loaded_is_named_with_what_is_wrong(value, words):
    with pytest.raises(DriverNotUsable, match=words):
        find_driver("bad", [point("bad", value)])


def write(tmp_path, text):
    path = tmp_path / "worker.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_are_read_from_the_drivers_table(tmp_path):
    path = write(tmp_path, '[worker]\nx = 1\n[driver]\nretries = 7\n[[driver.hosts]]\nuri = "qemu:///system"\n')
    assert read_settings(path, Good) == Settings(hosts=(Host("qemu:///system"),), retries=7)


def test_without_a_file_or_a_table_the_defaults_hold(tmp_path):
    assert read_settings(None, Good) == Settings()
    assert read_settings(write(tmp_path, ""), Good) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[driver]\nretries = "7"', r"Expected `int`, got `str` - at `\$\.retries`"),
        ("[driver]\nretries = 7.5", r"got `float`"),
        ("[[driver.hosts]]\nuri = 3", r"Expected `str`, got `int` - at `\$\.hosts\[0\]\.uri`"),
        ("[[driver.hosts]]\n", r"required field `uri`"),
        ("[driver]\nretires = 7", "unknown field 'retires'; known are: hosts, retries"),
        ("driver = 5", "got `int`"),
        ("[driver", "is not TOML"),
    ],
)
def test_wrong_settings_are_refused_with_the_file_the_field_what_was_found_and_what_was_expected(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(SettingsInvalid, match=words) as refused:
        read_settings(path, Good)
    assert "worker.toml" in str(refused.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"absent\.toml: cannot be read"):
        read_settings(tmp_path / "absent.toml", Good)


def test_an_open_driver_knows_the_secrets_of_its_settings():
    made = open_driver(Good, Settings(hosts=(Host("a", "hunter2"),)), "c")
    assert made.redactor.text("with hunter2 it fails") == "with *** it fails"
    assert made.served.driver == "tiny"


@pytest.mark.parametrize("kind", [OpensNever, Unreachable])
def test_a_driver_that_does_not_open_tells_why_without_its_secrets(kind, caplog):
    with pytest.raises(DriverNotUsable) as refused:
        open_driver(kind, Settings(hosts=(Host("a", "hunter2"),)), "c")
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("kind", [UpsideDown, Talks])
def test_a_description_that_breaks_the_contract_is_refused(kind):
    with pytest.raises(DriverNotUsable):
        served_by(kind().description())


class Broad(Good):
    releases = ("0.3", "7.5")

    def description(self):
        return msgspec.structs.replace(super().description(), releases=self.releases)


class Later(Broad):
    releases = ("7.0", "7.5")


def test_what_is_announced_is_what_driver_and_worker_both_serve():
    opened = open_driver(Broad, Settings(), "c")
    assert opened.description.releases == (str(LOWEST), str(CURRENT))
    assert (opened.served.lowest, opened.served.highest) == (LOWEST, CURRENT)
    with pytest.raises(
        DriverNotUsable, match=rf"serves contract releases 7\.0 to 7\.5, this worker {LOWEST} to {CURRENT}"
    ):
        open_driver(Later, Settings(), "c")


def test_the_drivers_of_this_environment_are_those_of_the_entry_point_group():
    with pytest.raises(DriverNotUsable, match="simulated"):
        find_driver("no such driver")
