"""The command group."""

import click

from stageflow.cli.control import pause, repair, resubmit, resume
from stageflow.cli.history import history
from stageflow.cli.jobs import cancel, demo, explain, jobs, run, status, submit, tasks, watch
from stageflow.cli.letters import letters
from stageflow.cli.limits import limit, pause_type, resume_type, types
from stageflow.cli.retention import purge
from stageflow.cli.schedules import schedules
from stageflow.cli.upkeep import check, doctor, migrate, verify, worker


@click.group(
    epilog="Exit codes: 0 done, 1 job or check failed, 2 usage, 3 store or queue unreachable or unfit, 4 schema does not fit.",
)
@click.version_option(package_name="stageflow")
def main() -> None:
    """Durable multi-stage jobs."""


for command in (
    *(demo, run, submit, worker),
    *(status, explain, history, watch, jobs, tasks),
    *(cancel, pause, resume, resubmit, repair, letters, purge, schedules),
    *(types, limit, pause_type, resume_type),
    *(migrate, verify, check, doctor),
):
    main.add_command(command)
