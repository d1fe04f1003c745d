"""CIM as WS-Management carries it, with the types that its XML leaves out.

The classes come from `federation_hyperv.schemas`: one JSON file for each, with the page of Microsoft's reference that
publishes it.  Nothing here does input or output, so the driver and the simulated host share it.
"""

from federation_hyperv.cim.instances import Instance
from federation_hyperv.cim.paths import CIMV2, VIRTUALIZATION, Reference
from federation_hyperv.cim.schema import CimClass, Field, Method, Schemas, load_schemas
from federation_hyperv.cim.values import Value

__all__ = [
    "CIMV2",
    "VIRTUALIZATION",
    "CimClass",
    "Field",
    "Instance",
    "Method",
    "Reference",
    "Schemas",
    "Value",
    "load_schemas",
]
