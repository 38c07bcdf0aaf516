"""The ``stageflow`` command: a front door that knows the app and the insights, and nothing below."""

from stageflow.cli.main import main

__all__ = ["main"]
