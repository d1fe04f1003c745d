"""The demonstration: the main job on the embedded default, judged by the hypervisors' own logs."""
