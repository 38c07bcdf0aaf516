"""Read-only questions for front doors: the only read model."""

from stageflow.insights.diagnosis import Ailment, AilmentKind, Diagnosis
from stageflow.insights.doctor import examine_store
from stageflow.insights.explain import explain_job
from stageflow.insights.explanation import Explanation, Finding, FindingKind
from stageflow.insights.progress import JobProgress, StageProgress, job_progress

__all__ = [
    "Ailment",
    "AilmentKind",
    "Diagnosis",
    "Explanation",
    "Finding",
    "FindingKind",
    "JobProgress",
    "StageProgress",
    "examine_store",
    "explain_job",
    "job_progress",
]
