"""The embedded broker, for one process: `federation+memory://name`."""
