"""The one place where concrete classes meet: bus, store, manager and worker become processes here."""
