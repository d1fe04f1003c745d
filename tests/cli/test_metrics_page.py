from pathlib import Path

from federation.cli.metrics_page import PAGE, render

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_of_metrics_is_made_from_the_catalogue():
    assert (ROOT / PAGE).read_text() == render(), "python -m federation.cli.metrics_page"
