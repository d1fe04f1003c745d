"""``python -m federation.cli``."""

from federation.cli.main import main

main()
