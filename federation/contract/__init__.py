"""The driver contract: operations, types, errors, capabilities, releases.  A driver imports this and nothing else of ours."""
