"""The same work written by hand, without a library: the limit that figures are compared with.

A twin runs the fan-out of :mod:`benchmarks.flows` in tables of its own. It has no contracts, retries, leases that expire,
fencing or recovery, and plans its second stage as cheaply as it can; it commits as durably as stageflow does.
"""
