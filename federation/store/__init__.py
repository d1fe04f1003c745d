"""The only code that knows SQL: clusters, instances, operations, outbox, grants, workers."""
