"""From ``--app``, ``--store`` and ``--queue`` to an app."""

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import click

from stageflow.app import Stageflow
from stageflow.app.factory import DEFAULT_STORE
from stageflow.contracts.job import JobRecord
from stageflow.contracts.preview import redact
from stageflow.errors import JobNotFoundError, StageflowError
from stageflow.settings import read_settings
from stageflow.worker import WorkerOptions
from stageflow.workflow.registry import JobRegistry

_PREFIX_MATCHES = 3


@contextmanager
def opened_app(
    app: str | None,
    store: str | None,
    queue: str | None,
    *,
    registry: JobRegistry | None = None,
    options: WorkerOptions | None = None,
    needs_workflows: bool = False,
) -> Iterator[Stageflow]:
    """Give the app that the options and the environment name, closed at the end unless ``--app`` itself is an app."""
    settings = read_settings()
    named = app or settings.app
    found = registry if registry is not None else _registry(named)
    if isinstance(found, Stageflow):
        if store is not None or queue is not None:
            msg = f"--app {named} is an app with its own store and queue; leave out --store and --queue, or name its registry"
            raise click.UsageError(msg)
        yield found
        return
    if needs_workflows and not found.workflows():
        msg = "no workflow is known; name the module that registers them: --app yourpackage.workflows"
        raise click.UsageError(msg)
    with Stageflow(
        store or settings.store or DEFAULT_STORE,
        registry=found,
        queue=queue or settings.queue,
        options=options,
    ) as opened:
        yield opened


def find_job(app: Stageflow, job_id: str) -> JobRecord:
    """Return the job with this id, or with the only id that begins so.

    Raises:
        click.UsageError: The prefix is blank or fits several jobs.
        JobNotFoundError: It fits none.
    """
    if not job_id.strip():
        msg = "the job's id is blank; give the id or its beginning, as `stageflow jobs` lists it"
        raise click.UsageError(msg)
    matches = app.repositories.jobs.list_jobs(id_prefix=job_id, limit=_PREFIX_MATCHES)
    if not matches:
        msg = f"there is no job whose id begins with {job_id!r}; list them with `stageflow jobs`"
        raise JobNotFoundError(msg)
    if len(matches) > 1:
        msg = f"{job_id!r} fits several jobs, such as {', '.join(match.job_id[:16] for match in matches)}; give more of the id"
        raise click.UsageError(msg)
    return app.job(matches[0].job_id)


def _registry(named: str | None) -> JobRegistry | Stageflow:
    if named is None:
        return JobRegistry.instance()
    module_name, _, attribute = named.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _imported(named, module_name)
    try:
        target = attrgetter(attribute)(module) if attribute else JobRegistry.instance()
    except AttributeError as error:
        msg = f"--app {named}: {error}; name an importable module, or module:attribute"
        raise click.UsageError(msg) from error
    if not isinstance(target, JobRegistry | Stageflow):
        msg = f"--app {named} is {type(target).__name__}; it must be a Stageflow app or a JobRegistry"
        raise click.UsageError(msg)
    return target


def _imported(named: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except StageflowError:
        raise
    except ImportError as error:
        msg = f"--app {named}: {error}; name an importable module, or module:attribute"
        raise click.UsageError(msg) from error
    except SyntaxError as error:
        msg = f"--app {named} cannot be imported: SyntaxError: {error}"
        raise click.UsageError(redact(msg)) from error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        msg = f"--app {named} cannot be imported: {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        raise click.UsageError(redact(msg)) from error
