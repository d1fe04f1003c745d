"""The REST face: parse, call a use case, render."""
