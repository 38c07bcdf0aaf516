"""Mutants of the stores: each guard, lock, fence and counter left out once, and the tests that must notice it."""
