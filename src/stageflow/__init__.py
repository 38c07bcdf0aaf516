"""Durable multi-stage jobs."""
