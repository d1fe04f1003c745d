"""The VMware vSphere driver: virtual machines of a vCenter through pyvmomi."""
