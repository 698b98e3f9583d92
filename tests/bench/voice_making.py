"""What speech notices of a voice that is being made of a clip beside it. One JSON line last.

Theory. A voice is made by a process of its own, with one thread and ten steps of niceness. Where
there is a second core it runs there, and speech shares nothing with it but memory's bandwidth. On
one core the kernel gives it a tenth of what speech wants, and a waking thread goes before it: first
audio may grow by about a tenth, and the event loop's delay by what the kernel lets a process run on
before it looks again, a few milliseconds. Handing the clip over costs one copy of it in memory, its
SHA-256 in a thread, and one write; taking the voice over costs the engine thread one file of
170 KB.

The daemon is here, with the bundled voice; the clip is heard by models of the official sizes with
random weights, so what they hear fits the bundled voice no better than a voice of another model:
the engine refuses it, after all the work that is measured here was done. One client speaks sentence
after sentence and reads all; meanwhile the loop says how late it wakes from sleeps of 5 ms.

    python tests/bench/voice_making.py [--voices 6]
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import uvloop

from chatterbox.api import EngineInfo
from chatterbox.config import ListeningConfig
from chatterbox.engine import ChatterboxEngine
from chatterbox.loading import load_engine
from chatterbox.variants import VARIANTS
from chatterboxd_client.context import DaemonError
from chatterboxd_client.listening import Audio
from chatterboxd_client.session import SpeechClient
from daemon.config import Config
from daemon.server import Daemon
from tests.model.listening_checkpoint import write_clip, write_listeners

TEXT = "All work and no play makes Jack a dull boy. "
NAP_S = 0.005
CLIP_S = 12.0


class ListeningEngine:
    """The bundled voice, which says that it can listen."""

    def __init__(self, engine: ChatterboxEngine) -> None:
        self._engine = engine
        self.warm_up, self.start = engine.warm_up, engine.start
        self.step, self.release = engine.step, engine.release
        self.add_voice, self.remove_voice = engine.add_voice, engine.remove_voice

    @property
    def info(self) -> EngineInfo:
        return replace(self._engine.info, can_clone=True)


@dataclass(slots=True)
class Phase:
    """What was noticed while something was, or was not, being made."""

    first_audio_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        late = sorted(self.late_ms)
        return {
            "utterances": len(self.first_audio_ms),
            "first_audio_ms_p50": round(statistics.median(self.first_audio_ms), 1),
            "first_audio_ms_max": round(max(self.first_audio_ms), 1),
            "loop_late_ms_p50": round(statistics.median(late), 2),
            "loop_late_ms_p99": round(late[int(0.99 * len(late))], 2),
            "loop_late_ms_max": round(late[-1], 2),
        }


async def speak(client: SpeechClient, phase: Phase) -> None:
    """Sentence after sentence, until cancelled."""
    while True:
        context = await client.open(max_lead_ms=2_000)
        began = time.perf_counter()
        await context.send_text(TEXT)
        await context.end()
        is_first = True
        async for event in context.events():
            if is_first and isinstance(event, Audio):
                phase.first_audio_ms.append(1000 * (time.perf_counter() - began))
                is_first = False


async def nap(phase: Phase) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(NAP_S)
        phase.late_ms.append(1000 * (time.perf_counter() - began - NAP_S))


async def watch(client: SpeechClient, work: "asyncio.Future[None]") -> Phase:
    """What is noticed until the work is done."""
    phase = Phase()
    tasks = [asyncio.create_task(speak(client, phase)), asyncio.create_task(nap(phase))]
    await asyncio.wait([work, *tasks], return_when=asyncio.FIRST_COMPLETED)
    work.result()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return phase


async def make_voices(client: SpeechClient, clip: bytes, *, count: int) -> list[float]:
    """Seconds of each, from the upload to the answer."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        try:
            await client.clone_voice(clip, name="somebody", consent=True)
        except DaemonError as error:
            if "does not take the voice" not in str(error):
                raise
        seconds.append(time.perf_counter() - began)
    return seconds


async def measure(folder: Path, *, count: int) -> dict[str, object]:
    listeners = replace(VARIANTS["english"], name="listeners", listening=ListeningConfig())
    await asyncio.to_thread(write_listeners, folder, listeners)
    clip = write_clip(folder / "clip.flac", CLIP_S).read_bytes()
    config = Config(port=0, num_slots=2, cloning="all")
    command = (sys.executable, "-m", "chatterbox.cloning", "--model", str(folder))
    daemon = Daemon(
        config,
        lambda: ListeningEngine(load_engine(None, num_slots=2)),
        clone_command=command,
    )
    listening = asyncio.Event()
    running = asyncio.create_task(daemon.run(on_listening=listening.set))
    await listening.wait()
    url = f"ws://127.0.0.1:{daemon.port}/"
    async with await SpeechClient.connect(url) as speaker, await SpeechClient.connect(url) as owner:
        (first_s,) = await make_voices(owner, clip, count=1)
        making = asyncio.ensure_future(make_voices(owner, clip, count=count))
        beside = await watch(speaker, asyncio.ensure_future(_done(making)))
        took_s = making.result()
        alone = await watch(speaker, asyncio.ensure_future(asyncio.sleep(sum(took_s))))
    daemon.stop()
    await running
    return {
        "alone": alone.figures(),
        "beside": beside.figures(),
        "first_voice_s": round(first_s, 2),
        "voice_s_p50": round(statistics.median(took_s), 2),
        "clip": asdict(listeners.listening) | {"seconds": CLIP_S, "bytes": len(clip)},
    }


async def _done(task: "asyncio.Future[list[float]]") -> None:
    await task


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--voices", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(measure(Path(folder), count=arguments.voices))
    for name in ("alone", "beside"):
        sys.stderr.write(f"{name:8}{found[name]}\n")
    sys.stdout.write(json.dumps({"bench": "voice_making"} | found) + "\n")


if __name__ == "__main__":
    main()
