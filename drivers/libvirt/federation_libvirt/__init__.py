"""The libvirt driver of the driver federation."""
