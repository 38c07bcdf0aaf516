"""Read-only questions for front doors: the only read model."""

from stageflow.insights.explain import explain_job
from stageflow.insights.explanation import Explanation, Finding, FindingKind
from stageflow.insights.progress import JobProgress, StageProgress, job_progress

__all__ = [
    "Explanation",
    "Finding",
    "FindingKind",
    "JobProgress",
    "StageProgress",
    "explain_job",
    "job_progress",
]
