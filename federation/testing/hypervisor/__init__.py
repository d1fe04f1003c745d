"""A hypervisor that exists only as a file: shared by the workers of a cluster, outliving all of them.

From the bottom: ``records`` (what it keeps of a machine), ``changes`` (what may change, pure; with ``device_changes``,
``snapshot_changes`` and ``owner_changes``), ``stored`` (volumes and templates), ``node_rows``, ``database`` and ``world``
(where it is kept), ``session`` (the two ways in: change and read), then the operations of the contract, a module for each
group.  ``log`` and ``dump`` are for those who look from outside.
"""
