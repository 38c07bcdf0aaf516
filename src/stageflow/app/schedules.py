"""What an app does with schedules."""

from typing import Literal

from stageflow.app.connected import Connected, J, WorkflowRef
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.schedule import CatchUp, ScheduleRecord
from stageflow.engine.schedules import pause_schedule, put_schedule, remove_schedule, resume_schedule


class Schedules(Connected):
    """Keeps schedules that create jobs."""

    def schedule(
        self,
        name: str,
        workflow: WorkflowRef[J],
        parameters: J,
        *,
        cron: str,
        time_zone: str = "UTC",
        catch_up: CatchUp | Literal["skip", "one", "all"] = "skip",
        priority: int = 0,
        timeout_seconds: float | None = None,
    ) -> ScheduleRecord:
        """Let a job be created at the times of a cron expression, once however many workers run; replaces one with this name.

        A schedule that says the same already stays as it is, so every process may call this at its start.

        Args:
            name: Letters, digits and ``. _ : / -``; the same name means the same schedule.
            workflow: The controller class or its job type.
            parameters: An instance of the workflow's parameter model; checked again with every firing.
            cron: Five fields: minute, hour, day of month, month, day of week.
            time_zone: In which they are meant, such as ``Europe/Vienna``.
            catch_up: What becomes of times that passed while nothing fired: ``skip``, ``one`` job for all, or ``all``, each.
            priority: Of its jobs.
            timeout_seconds: Of its jobs, each from its start on.

        Raises:
            UnknownWorkflowError: The workflow is not registered.
            ContractViolationError: The parameters are not its model.
            InvalidValueError: Another argument cannot be; nothing was stored.
        """
        return put_schedule(
            self.registry.find(workflow),
            parameters,
            self.repositories,
            self.telemetry,
            name=name,
            cron=cron,
            time_zone=time_zone,
            catch_up=catch_up,
            priority=priority,
            timeout_seconds=timeout_seconds,
        )

    def schedules(self) -> list[ScheduleRecord]:
        """Return all schedules, by name."""
        return self.repositories.schedules.list_schedules()

    @enforce_contract
    def unschedule(self, name: str) -> None:
        """Delete a schedule; the jobs that it made stay.

        Raises:
            ScheduleNotFoundError: There is none with this name.
        """
        remove_schedule(name, self.repositories, self.telemetry)

    @enforce_contract
    def pause_schedule(self, name: str) -> ScheduleRecord:
        """Let a schedule fire no more until it is resumed.

        Raises:
            ScheduleNotFoundError: There is none with this name.
        """
        return pause_schedule(name, self.repositories)

    @enforce_contract
    def resume_schedule(self, name: str) -> ScheduleRecord:
        """Let a paused or failed schedule fire again; what passed meanwhile is not made good.

        Raises:
            ScheduleNotFoundError: There is none with this name.
        """
        return resume_schedule(name, self.repositories)
