"""Loads the fixtures of the real parts (tests/parts/fixtures.py) for every distribution's tests."""

pytest_plugins = ["parts.fixtures"]
