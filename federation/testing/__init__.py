"""Shipped test doubles: simulated hypervisor, fault injection, manual clock, history checker."""
