"""One loop: receive, ask, call the driver, report."""
