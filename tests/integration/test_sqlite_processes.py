"""Several processes on one SQLite file: they share the work, wake each other, and die without leaving anything half."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from stageflow.backends.sqlite import SqliteStore
from stageflow.testing.conformance.builders import (
    all_types,
    claim_all,
    get_jobs_of,
    new_job,
    start,
    tasks_type,
)
