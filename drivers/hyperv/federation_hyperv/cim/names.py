"""The namespaces and addresses of WS-Management and of Microsoft's extensions (MS-WSMV 2.2.1, DSP0226, DSP0227)."""

from __future__ import annotations

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ANONYMOUS = f"{ADDRESSING}/role/anonymous"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
IDENTITY = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
CIM_COMMON = "http://schemas.dmtf.org/wbem/wscim/1/common"
CIM_BINDING = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
WMI_ERROR = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/MSFT_WmiError"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
SELECTOR_FILTER = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter"
ASSOCIATION_FILTER = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"


def resource_uri(namespace: str, class_name: str) -> str:
    """The resource URI of a class in a WMI namespace; `*` for "whatever the filter says"."""
    return f"{WMI}{namespace}/{class_name}"


def split_resource_uri(uri: str) -> tuple[str, str]:
    """The WMI namespace and the class of a resource URI; empty strings when it is none of WMI's."""
    if not uri.lower().startswith(WMI):
        return "", ""
    namespace, _, class_name = uri[len(WMI) :].rpartition("/")
    return namespace, class_name
