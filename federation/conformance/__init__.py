"""The kit that says whether a driver keeps the contract."""
