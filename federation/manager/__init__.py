"""The manager's use cases: submit, place, publish, apply outcomes, admit workers, reconcile."""
