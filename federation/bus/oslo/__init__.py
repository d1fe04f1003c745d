"""The oslo.messaging transport driver: `federation://` and `federation+memory://`."""
