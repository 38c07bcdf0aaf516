"""The benchmarks there are, by name."""

from typing import Final

BENCHMARKS: Final = {
    "fanout": "benchmarks.fanout",
    "limit": "benchmarks.limit",
    "jobs": "benchmarks.jobs",
    "idle": "benchmarks.idle",
    "submit": "benchmarks.submit",
    "wide": "benchmarks.wide",
    "contract": "benchmarks.contract",
    "handover": "benchmarks.handover",
    "commits": "benchmarks.commits",
    "long": "benchmarks.long",
    "contention": "benchmarks.contention",
    "horizon": "benchmarks.horizon",
    "fairness": "benchmarks.fairness",
    "limits": "benchmarks.limits",
    "azure": "benchmarks.azure",
    "fuzz": "benchmarks.fuzz.campaign",
    "chaos": "benchmarks.chaos.run",
    "peers": "benchmarks.peers.compare",
    "model": "benchmarks.model",
    "mutants": "benchmarks.mutants",
    "report": "benchmarks.report",
}
"""Each has one function ``measure(request)``; what it does is the first line of its docstring."""
