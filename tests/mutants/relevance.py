"""Which tests look at which function: those that are likeliest to notice, run first."""

from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant

_COMPLETION: Final = (
    "completion",
    "fencing",
    "halting",
    "partials",
    "checkpoints",
    "results",
    "job_status",
    "groups",
    "recovery",
    "pausing",
)
_CLAIMS: Final = ("claims", "bundles", "pausing", "plan", "limits", "job_status", "halting", "recovery")
_LEASES: Final = ("leases", "recovery", "fencing", "checkpoints", "outbox")
_ADVANCE: Final = ("advance", "plan", "groups", "ending", "pausing", "fencing", "resubmission")
_OPERATION: Final = ("job_status", "ending", "halting", "resubmission", "repair", "pausing", "deadlines", "jobs", "retention")
_ALWAYS: Final = ("test_postgres_locks", "test_postgres_lock_order", "test_postgres_guards")

RELEVANT: Final = {
    "complete_tasks": _COMPLETION,
    "count_down": (*_COMPLETION, "groups", "pausing"),
    "close_ranges": (*_COMPLETION, "groups", "pausing", "recovery"),
    "halt_stages": ("groups", "halting"),
    "open_advance": ("completion", "pausing", "ending", "fencing", "resubmission", "job_status"),
    "retry_tasks": (*_COMPLETION, "recovery"),
    "was_cut": _COMPLETION,
    "claim": _CLAIMS,
    "claim_named": ("named_claims", "repair", "outbox"),
    "lock_control": ("bundles",),
    "admit_range": (*_CLAIMS, "named_claims", "groups"),
    "settle_claim": (*_CLAIMS, "deadlines"),
    "lease_range": (*_CLAIMS, "named_claims", "leases", "fencing", "outbox"),
    "lease_new_range": ("plan", "limits"),
    "extend_leases": _LEASES,
    "recover_leases": (*_LEASES, "halting"),
    "return_ranges": _LEASES,
    "free_range": _LEASES,
    "save_checkpoint": ("checkpoints",),
    "start_stage_clock": ("deadlines",),
    "open_due": ("claims", "recovery", "completion", "jobs"),
    "open_held": ("pausing", "recovery", "plan"),
    "recover_waiting": (*_LEASES, "pausing", "resubmission"),
    "add_tasks": ("plan", "fencing", "pausing", "resubmission", "completion"),
    "forget_tasks": ("plan",),
    "advance_job_stage": _ADVANCE,
    "close_stage": _ADVANCE,
    "check_job_completion": ("ending", "advance", "pausing", "fencing", "resubmission", "groups"),
    "end_job": _OPERATION,
    "end_overdue": ("deadlines",),
    "change_job_status": _OPERATION,
    "close_task": ("halting", "checkpoints", "resubmission", "repair"),
    "cut_out": ("halting", "recovery"),
    "resubmit_job": ("resubmission", "deadlines"),
    "repair_stage": ("repair", "deadlines"),
    "take_over_stages": ("resubmission", "repair"),
    "status_in_run": ("resubmission",),
    "create_jobs": ("jobs",),
    "lock_stages": ("retention",),
    "open_stages": ("advance", "ending"),
    "require_read_committed": ("test_postgres_isolation",),
    "barrier": (*_COMPLETION, "groups", "pausing", "resubmission", "job_status"),
    "completion": _COMPLETION,
    "closing": ("halting", "checkpoints", "resubmission", "repair"),
    "leases": (*_CLAIMS, "deadlines"),
    "named": ("named_claims", "repair", "outbox"),
    "ranges": (*_CLAIMS, "named_claims", "leases", "fencing", "outbox", "completion"),
    "recovery": (*_LEASES, "halting", "pausing"),
    "holding": (*_LEASES, "resubmission"),
    "plan": ("plan", "fencing", "pausing", "resubmission", "completion"),
    "advance": _ADVANCE,
    "ending": (*_OPERATION, "advance", "fencing", "groups"),
    "stages": (*_ADVANCE, "job_status"),
}


def modules_for(mutant: Mutant) -> frozenset[str]:
    """Return the names of the test modules that are likeliest to notice a mutant."""
    return frozenset((*RELEVANT[Path(mutant.file).stem], *_ALWAYS))
