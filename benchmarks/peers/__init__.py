"""The same work in other libraries, each in an environment and in processes of its own.

The modules named after a library, and what they import from here, run in that library's environment,
where there is no stageflow.
"""
