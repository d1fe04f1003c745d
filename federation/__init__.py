"""A message-bus federation of hypervisor drivers: versioned operations, ordered by the broker."""
