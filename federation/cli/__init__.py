"""The manager's use cases in words."""
