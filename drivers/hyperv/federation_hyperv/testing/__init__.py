"""A simulated group of Hyper-V hosts behind WS-Management, for tests and for trying the driver without Windows.

What it answers follows Microsoft's published class and method pages and what foreign clients expect (os-win, libvirt's
hyperv driver, pywinrm, pypsrp); it was never compared with a real Windows host.
"""

from federation_hyperv.testing.cluster import Settings, SimulatedCluster
from federation_hyperv.testing.faults import Fault, FaultKind

__all__ = ["Fault", "FaultKind", "Settings", "SimulatedCluster"]
