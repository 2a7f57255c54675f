"""The HTTP API in a process of its own before a real daemon, and somebody with a key who signs requests to it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from attrs import define

from pipaid.wire.signing import canonical, sign
from tests.surfaces.daemon import CALM, ENDS_S_MAX, LOOK_S, READY_S_MAX, Daemon
from tests.surfaces.daemons import command, environment

SEPARATE = (
    CALM
    + """
[http]
port = 0
"""
)


@define(eq=False)
class Api:
    """The process, and where it listens."""

    daemon: Daemon
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str, **process: Any) -> None:
        """Start the process and wait until it listens."""
        began = len(self.said("http.listening"))
        config, state = self.daemon.folder / "pipaid.toml", self.daemon.state
        with self.log.open("ab") as log:
            line = command("api", "--config", str(config), "--state", str(state), *words)
            started: Any = subprocess.Popen(line, stderr=log, env=environment(**self.daemon.variables), **process)
        self.process = started
        until = time.monotonic() + READY_S_MAX
        while len(self.said("http.listening")) == began:
            assert started.poll() is None, f"it ended with {started.returncode}: {self.log.read_text()}"
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(LOOK_S)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell the process to end and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(ENDS_S_MAX)

    def end_all(self) -> None:
        """Leave no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one kind in its log."""
        if not self.log.exists():
            return []
        lines = self.log.read_bytes().rpartition(b"\n")[0].splitlines()
        records = [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]
        return [record for record in records if record["event"] == event]

    @property
    def port(self) -> int:
        return int(self.said("http.listening")[-1]["port"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self, name: str, organisation: str = "main") -> str:
        """Return the account with that name, which is made when it is first asked for."""
        known = {each["name"]: each["id"] for each in self.daemon.ask("account.list", limit=100)["data"]}
        return str(known.get(name) or self.daemon.ask("account.create", name=name, organisation=organisation)["id"])

    @property
    def stream(self) -> str:
        """Return where the event stream is."""
        return f"ws://127.0.0.1:{self.daemon.stream_port}/v1/ws"

    def user(self, *scopes: str, account: str | None = None) -> User:
        """Return somebody with a new key, of the owner's account or of the one with that name."""
        more = {} if account is None else {"account_id": self.account(account)}
        made = self.daemon.ask("key.create", name="somebody", scopes=scopes or ["trade"], **more)
        return User(self.url, made["api_key"], made["secret"])


@define
class User:
    """Somebody with a key, whose every timestamp is later than the one before."""

    url: str
    api_key: str
    secret: str
    last_ms: int = 0

    def send(
        self, method: str, target: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Sign a request and return its answer."""
        return send(self.signed(method, target, body, headers=headers))

    def signed(
        self, method: str, target: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> httpx2.Request:
        """Return a request of theirs."""
        content = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        self.last_ms = max(self.last_ms + 1, time.time_ns() // 1_000_000)
        signature = sign(self.secret.encode(), canonical(str(self.last_ms), method, target, content))
        credentials = {
            "X-PipAI-API-Key": self.api_key,
            "X-PipAI-Timestamp": str(self.last_ms),
            "X-PipAI-Signature": signature,
        }
        return httpx2.Request(method, self.url + target, content=content, headers={**credentials, **(headers or {})})


def send(request: httpx2.Request) -> httpx2.Response:
    """Send a request as it is, on a connection of its own."""
    with httpx2.Client(timeout=60, trust_env=False) as client:
        return client.send(request)


@contextmanager
def serving(
    folder: Path,
    config: str = SEPARATE,
    *,
    variables: Mapping[str, str] | None = None,
    prepare: Callable[[Daemon], object] = bool,
) -> Generator[Api, None, None]:
    """Run a daemon, made ready by `prepare`, and its HTTP API until the block is left, and leave no process behind."""
    daemon = Daemon(folder, config, {"PIPAID__HTTP__MODE": "separate", **(variables or {})})
    prepare(daemon)
    api = Api(daemon, folder / "api.log")
    try:
        daemon.start()
        api.start()
        yield api
    finally:
        api.end_all()
        daemon.end_all()


def curl(*words: str, **variables: str) -> tuple[int, Any]:
    """Run curl and return status and decoded body."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}", *words],
        capture_output=True, text=True, check=True, timeout=60, env={**os.environ, **variables},
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return int(status), msgspec.json.decode(body)
