from acceptance.conftest import estate, make_breakable_estate, make_estate

__all__ = ["estate", "make_breakable_estate", "make_estate"]
