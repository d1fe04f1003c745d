"""The manager's use cases: submit, place, publish, answer, apply outcomes, admit workers, reconcile."""
