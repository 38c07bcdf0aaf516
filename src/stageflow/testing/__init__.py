"""The test kit: what users and our own tests use to try a workflow, a store or a queue."""
