"""A hypervisor that exists only as a file: shared by the workers of a cluster, outliving all of them.

From the bottom: ``records`` (what it keeps of a machine), ``changes`` (what may change, pure), ``database`` and ``world``
(where it is kept), ``session`` (the two ways in: change and read), then the operations of the contract in
``lifecycle``, ``power`` and ``queries``.
"""
