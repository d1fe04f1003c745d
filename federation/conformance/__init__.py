"""The conformance kit: what any driver has to pass, shipped with the core.

``federation conformance run --driver NAME --config FILE``, or ``pytest --pyargs federation.conformance
--conformance-driver NAME --conformance-config FILE``.  Every case cites the clauses of docs/contract.md that it checks.

How it works: the kit runs the driver in processes of its own (:mod:`.process`, :mod:`.child`) behind the worker's real
error boundary, with a call that kills, revokes or cancels where a case says (:mod:`.scripted_call`), and looks at the
hypervisor with other eyes than the driver under test (:mod:`.observing`).  What operations there are to check is the
table in :mod:`.scenarios`: a new operation is a new row.
"""
