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
from stageflow.app.factory import DEFAULT_STORE, RepositoryFactory, require_made
from stageflow.cli.options import given_blobs
from stageflow.contracts.job import JobRecord
from stageflow.contracts.preview import redact
from stageflow.errors import InvalidValueError, JobNotFoundError, StageflowError
from stageflow.ports import Store
from stageflow.settings import read_settings
from stageflow.worker import WorkerOptions
from stageflow.workflow.registry import JobRegistry

_MAIN = """`if __name__ == "__main__":`"""
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
    makes_store: bool = False,
) -> Iterator[Stageflow]:
    """Give the app that the options and the environment name, closed at the end unless ``--app`` itself is an app.

    Args:
        needs_workflows: Refuse a registry without workflows.
        makes_store: Make a SQLite store that is not there yet; a command that only looks must not, and checks the schema.

    Raises:
        SchemaVersionError: The schema does not fit this code.
    """
    settings, blobs = read_settings(), given_blobs()
    found = registry if registry is not None else _registered(app, store, queue, blobs)
    if isinstance(found, Stageflow):
        if not makes_store:
            found.repositories.store.check_schema()
        yield found
        return
    if needs_workflows and not found.workflows():
        msg = "no workflow is known; name the module that registers them: --app yourpackage.workflows"
        raise click.UsageError(msg)
    url = store or settings.store or DEFAULT_STORE
    if not makes_store:
        require_made(url)
    with Stageflow(
        url,
        registry=found,
        queue=queue or settings.queue,
        options=options,
        blobs=blobs or settings.blobs,
    ) as opened:
        if not makes_store:
            opened.repositories.store.check_schema()
        yield opened


@contextmanager
def opened_store(app: str | None, store: str | None, queue: str | None) -> Iterator[Store]:
    """Give the store that the options and the environment name, as it is: nothing is made or migrated."""
    found = _registered(app, store, queue)
    if isinstance(found, Stageflow):
        yield found.repositories.store
        return
    opened = RepositoryFactory.create_repositories(store or read_settings().store or DEFAULT_STORE).store
    try:
        yield opened
    finally:
        opened.close()


def find_job(app: Stageflow, job_id: str) -> JobRecord:
    """Return the job with this id, or with the only id that begins so, as the list shows it: without its stage results.

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
    return matches[0]


def find_stage(app: Stageflow, job: JobRecord, stage_number: int | None) -> int:
    """Return the number of the stage asked for, the current one if none was.

    Raises:
        InvalidValueError: The job has no such stage; the message names those it has.
    """
    number = job.stage if stage_number is None else stage_number
    if number > job.total_stages:
        names = {stage.stage_number: stage.name for stage in app.repositories.stages.list_stages(job.job_id, job.run)}
        stages = [f"{each} ({names[each]})" if each in names else str(each) for each in range(1, job.total_stages + 1)]
        msg = f"job {job.job_id[:16]} has no stage {number}; its stages are {', '.join(stages)}: give one of these to --stage"
        raise InvalidValueError(msg)
    return number


def _registered(app: str | None, store: str | None, queue: str | None, blobs: str | None = None) -> JobRegistry | Stageflow:
    """Return the registry, or the app, that ``--app`` or the environment names."""
    named = app or read_settings().app
    found = _registry(named)
    if isinstance(found, Stageflow) and (store, queue, blobs) != (None, None, None):
        msg = (
            f"--app {named} is an app with its own store, queue and blob store; leave out --store, --queue and --blobs, or "
            "name its registry"
        )
        raise click.UsageError(msg)
    return found


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
    except SystemExit as error:
        msg = f"--app {named} cannot be imported: it calls sys.exit({error.code!r}); put what it runs under {_MAIN}"
        raise click.UsageError(redact(msg)) from error
    except SyntaxError as error:
        msg = f"--app {named} cannot be imported: SyntaxError: {error}"
        raise click.UsageError(redact(msg)) from error
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        msg = f"--app {named} cannot be imported: {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        raise click.UsageError(redact(msg)) from error
