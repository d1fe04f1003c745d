"""The history checker: judges by the hypervisors' own effect logs what became of every accepted operation."""
