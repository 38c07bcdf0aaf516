"""The command group."""

import click

from stageflow.cli.control import pause, repair, resubmit, resume
from stageflow.cli.jobs import cancel, demo, jobs, run, status, submit, tasks, watch
from stageflow.cli.letters import letters
from stageflow.cli.upkeep import check, migrate, verify, worker


@click.group(
    epilog="Exit codes: 0 done, 1 job or check failed, 2 usage, 3 store or queue unreachable, 4 the schema needs migrate.",
)
@click.version_option(package_name="stageflow")
def main() -> None:
    """Durable multi-stage jobs."""


for command in (
    *(demo, run, submit, worker),
    *(status, watch, jobs, tasks),
    *(cancel, pause, resume, resubmit, repair, letters),
    *(migrate, verify, check),
):
    main.add_command(command)
