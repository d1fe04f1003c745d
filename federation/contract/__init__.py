"""What a driver is: operations, types, errors, capabilities, releases. Standard library and msgspec only."""
