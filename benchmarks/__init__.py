"""How fast stageflow is, measured: ``python -m benchmarks NAME`` prints one JSON line a measurement.

Each benchmark is a module with one function ``measure(request)``, which yields :class:`~benchmarks.measurement.Measurement`.
Its request is a contract whose fields are the options of the command line.
"""
