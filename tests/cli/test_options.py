"""Options: command line over environment over file over default, and a page that says so."""

from pathlib import Path

import pytest

from federation.cli.options_page import render
from federation.config import ConfigError, load

PAGE = Path(__file__).parents[2] / "docs/reference/configuration.md"


def test_the_configuration_page_is_what_the_options_say():
    assert PAGE.read_text() == render(), "run: python -m federation.cli.options_page"


def test_command_line_goes_over_environment_over_file_over_default(tmp_path):
    file = tmp_path / "federation.conf"
    file.write_text("[manager]\nlease = 7\nmargin = 2\n\n[worker]\nmax_operations = 3\n")
    conf = load(file, {("manager", "lease"): 9.0, ("manager", "margin"): None}, {"FEDERATION_MANAGER_LEASE": "8"})
    assert (conf.manager.lease, conf.manager.margin, conf.worker.max_operations) == (9.0, 2.0, 3)
    assert load(file, {}, {"FEDERATION_MANAGER_LEASE": "8"}).manager.lease == 8.0
    assert load(None, {}, {}).manager.lease == 6.0


def test_a_secret_may_come_from_a_file(tmp_path):
    secret = tmp_path / "broker"
    secret.write_text("federation://u:p@h/\n")
    assert load(None, {}, {"FEDERATION_BROKER_FILE": str(secret)}).broker == "federation://u:p@h/"
    with pytest.raises(ConfigError, match=r"FEDERATION_BROKER_FILE names the file .*nothing"):
        load(None, {}, {"FEDERATION_BROKER_FILE": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FEDERATION_MANAGER_LEASE": "long"}, "long"),
        ({"FEDERATION_MANAGER_LEASE": "1", "FEDERATION_MANAGER_MARGIN": "2"}, r"manager\.margin is 2\.0"),
        ({"FEDERATION_MANAGER_PREFETCH": "0"}, "FEDERATION_MANAGER_PREFETCH .*'0'.*1"),
    ],
)
def test_a_value_that_an_option_may_not_have_is_refused(environment, said):
    with pytest.raises(ConfigError, match=said):
        load(None, {}, environment)


def test_a_configuration_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="missing"):
        load(tmp_path / "missing.conf", {}, {})
