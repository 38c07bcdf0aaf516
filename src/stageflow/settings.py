"""The only reader of the environment, and only when called."""

import os
from dataclasses import dataclass, field

from stageflow.errors import InvalidValueError

STORE = "STAGEFLOW_STORE"
QUEUE = "STAGEFLOW_QUEUE"
BLOBS = "STAGEFLOW_BLOBS"
APP = "STAGEFLOW_APP"


@dataclass(frozen=True)
class Settings:
    """What the environment says; ``None`` where it says nothing. Addresses hold secrets, and are left out of the ``repr``."""

    store: str | None = field(repr=False)
    queue: str | None = field(repr=False)
    app: str | None
    blobs: str | None = None


def read_settings() -> Settings:
    """Return the settings of this process's environment.

    Raises:
        InvalidValueError: A variable is set but blank.
    """
    return Settings(store=_text(STORE), queue=_text(QUEUE), app=_text(APP), blobs=_text(BLOBS))


def _text(name: str) -> str | None:
    if name not in os.environ:
        return None
    value = os.environ[name].strip()
    if not value:
        msg = f"the environment variable {name} is set but blank; unset it or give it a value"
        raise InvalidValueError(msg)
    return value
