"""Metrics and traces of a process: what they are, how they are read, where they are served."""
