"""Three daemons behind Debian's HAProxy with our configuration: one drained, one killed."""

import asyncio
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from daemon.wire.protocol import AudioMessage
from tests.e2e.processes import FAST, ROOT, Process, daemon_process, free_port
from tests.e2e.test_load import bounded
from tests.e2e.test_security import get
from tests.e2e.wire import Wire

NUM_SPEAKERS = 18
TEXT = "Hello there, dear friend. All work and no play makes Jack a dull boy."

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="haproxy is not installed (apt-get install haproxy)"
)


def configuration(daemons: Sequence[Process], agents: Sequence[int], *, port: int) -> str:
    """deploy/haproxy.cfg with these addresses in the place of its own."""
    text = (ROOT / "deploy" / "haproxy.cfg").read_text()
    text = text.replace("bind 0.0.0.0:8080", f"bind 127.0.0.1:{port}")
    lines = [line for line in text.splitlines() if not re.match(r"\s+server ", line)]
    lines += [
        f"    server gpu{number} 127.0.0.1:{daemon.port} agent-port {agent}"
        for number, (daemon, agent) in enumerate(zip(daemons, agents, strict=True))
    ]
    return "\n".join(lines) + "\n"


@dataclass
class Cluster:
    port: int
    daemons: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def num_sessions(self) -> list[int]:
        pages = [(await get(daemon.port, "/metrics"))[1] for daemon in self.daemons]
        found = [re.search(r"^chatterboxd_sessions ([\d.]+)", page, re.M) for page in pages]
        return [int(float(match[1])) for match in found if match]


@contextmanager
def cluster(tmp_path: Path, *, max_sessions: int) -> Iterator[Cluster]:
    with ExitStack() as stack:
        agents = [free_port() for _ in range(3)]
        arguments = ["--max-sessions", str(max_sessions), "--slots", "8", "--max-wait-ms", "30000"]
        arguments += ["--grace-s", "60", "--trusted-proxies", "127.0.0.0/8"]
        daemons = [
            stack.enter_context(
                daemon_process(tmp_path, *arguments, "--agent-port", str(agent), whole_command=FAST)
            )
            for agent in agents
        ]
        made = Cluster(free_port(), daemons)
        config = tmp_path / "haproxy.cfg"
        config.write_text(configuration(daemons, agents, port=made.port))
        haproxy = subprocess.Popen(["haproxy", "-W", "-db", "-f", str(config)])
        stack.callback(haproxy.wait)
        stack.callback(haproxy.terminate)
        wait_until_up(made.port)
        yield made


def wait_until_up(port: int) -> None:
    async def ask() -> None:
        async with asyncio.timeout(15):
            while True:
                try:
                    if (await get(port, "/readyz"))[0] == 200:
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.1)

    asyncio.run(ask(), debug=False)


@dataclass
class Speaker:
    """Says one text, to its end; notes what became of it."""

    is_speaking: asyncio.Event = field(default_factory=asyncio.Event)
    is_complete: bool = False
    close_code: int | None = None

    async def run(self, url: str) -> None:
        async with connect(url, compression=None, proxy=None, open_timeout=30) as connection:
            wire = Wire(connection)
            try:
                await wire.say("a", TEXT, max_lead_ms=1_000)
                await wire.receive_until(AudioMessage)
                self.is_speaking.set()
                heard = await wire.hear("a")
                self.is_complete = heard.samples().size == heard.end.samples
            except ConnectionClosed:
                self.is_speaking.set()
            else:
                await connection.close()


async def start_speakers(cluster: Cluster, num: int) -> list[tuple[Speaker, "asyncio.Task[None]"]]:
    started = []
    for _ in range(num):  # one by one, so that the balance is a known one
        speaker = Speaker()
        started.append((speaker, asyncio.create_task(speaker.run(cluster.url))))
        await speaker.is_speaking.wait()
    return started


def test_a_drained_daemon_keeps_its_promise_behind_haproxy(tmp_path: Path) -> None:
    """A rolling restart: nobody is cut off, and everybody who comes is served by the others."""
    with cluster(tmp_path, max_sessions=20) as three:

        async def talk() -> None:
            speakers = await start_speakers(three, NUM_SPEAKERS // 2)
            before = await three.num_sessions()
            assert min(before) >= 1, before  # least connections: spread over all three
            three.daemons[0].process.send_signal(signal.SIGTERM)
            late = await start_speakers(three, NUM_SPEAKERS // 2)
            await asyncio.gather(*(task for _, task in [*speakers, *late]))
            assert all(speaker.is_complete for speaker, _ in [*speakers, *late])

        uvloop.run(bounded(talk()), debug=False)
        assert three.daemons[0].finish()[0] == 0


def test_a_killed_daemon_costs_only_its_own_sessions(tmp_path: Path) -> None:
    """A crash: the others speak on, and whoever comes afterwards does not meet the dead one."""
    with cluster(tmp_path, max_sessions=20) as three:

        async def talk() -> None:
            speakers = await start_speakers(three, NUM_SPEAKERS // 2)
            num_on_the_dead = (await three.num_sessions())[0]
            three.daemons[0].process.kill()
            late = await start_speakers(three, NUM_SPEAKERS // 2)
            await asyncio.gather(*(task for _, task in [*speakers, *late]))
            assert all(speaker.is_complete for speaker, _ in late)
            num_lost = sum(not speaker.is_complete for speaker, _ in speakers)
            assert num_lost <= num_on_the_dead

        uvloop.run(bounded(talk()), debug=False)


async def admitted(url: str) -> ClientConnection:
    """As a client that is told to come again: a daemon's report of its places is up to half a
    second old, and two that filled up meanwhile may hide the third."""
    while True:
        try:
            return await connect(url, compression=None, proxy=None)
        except InvalidStatus as refused:
            assert refused.response.status_code == 503  # noqa: PT017 - it may come, and passes
            await asyncio.sleep(0.1)


def test_a_full_daemon_sends_its_clients_elsewhere(tmp_path: Path) -> None:
    """Three daemons of two places each take six; the seventh gets the 503 of all of them."""
    with cluster(tmp_path, max_sessions=2) as three:

        async def talk() -> None:
            connections = []
            for _ in range(6):
                connections.append(await admitted(three.url))
                assert '"begin"' in str(await connections[-1].recv())
            assert await three.num_sessions() == [2, 2, 2]
            with pytest.raises(InvalidStatus) as refused:
                await connect(three.url, proxy=None)
            assert refused.value.response.status_code == 503
            for connection in connections:
                await connection.close()

        uvloop.run(bounded(talk()), debug=False)
