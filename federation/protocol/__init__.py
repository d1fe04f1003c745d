"""The ordering protocol without I/O: bytes and facts in, decisions out (DESIGN §6)."""
