"""What a benchmark is asked for: a contract whose fields are the options of the command line."""

import argparse
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from stageflow import Contract, WorkerOptions
from stageflow.contracts.base import JsonObject


class Request(Contract):
    """The options that all benchmarks share; a benchmark makes its own subclass, with its defaults and what it adds."""

    server_settings: ClassVar[dict[str, str]] = {}
    """What this benchmark needs of the throwaway PostgreSQL, beside the settings of all."""

    uses_store: ClassVar[bool] = True
    """Whether it needs a store; if not, none is started for it."""

    store: str = Field(description="sqlite:PATH or postgresql://…; a throwaway durable PostgreSQL when left out")
    queue: str | None = Field(default=None, description="azure:…; the database queue when left out")
    tasks: int = Field(default=10_000, ge=1, description="tasks of each stage")
    workers: int = Field(default=2, ge=1, description="worker processes")
    rounds: int = Field(default=3, ge=1, description="how often each figure is taken")
    slots: int = Field(default=1, ge=1, description="threads of each worker that run tasks")

    def worker_options(self) -> WorkerOptions:
        """Return how the workers work."""
        return WorkerOptions(slots=self.slots)

    def settings(self) -> JsonObject:
        """Return what a measurement says of how it was taken; the store's address without what is private in it."""
        given: JsonObject = self.model_dump(mode="json", exclude={"store", "queue"})
        return given | {"store": self.store.partition(":")[0], "queue": "azure" if self.queue else "database"}

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Make an option of each field."""
        for name, field in cls.model_fields.items():
            _add_option(parser, name, field)

    @classmethod
    def from_options(cls, given: dict[str, Any], store: str) -> Self:
        """Return the request that the command line makes."""
        named = {name: value for name, value in given.items() if name in cls.model_fields and value is not None}
        return cls(**(named | {"store": store}))


def _add_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    option = f"--{name.replace('_', '-')}"
    text = field.description or ""
    if not field.is_required() and field.default is not None:
        text += f" (default: {field.default})"
    kind = _plain(field.annotation)
    if kind is bool:
        parser.add_argument(option, action="store_true", default=None, help=text)
    else:
        parser.add_argument(option, type=kind, default=None, help=text)


def _plain(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, UnionType}:
        (kind,) = (part for part in get_args(annotation) if part is not NoneType)
        return kind
    return annotation
