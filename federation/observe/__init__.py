"""Queue and worker metrics, health, traces."""
