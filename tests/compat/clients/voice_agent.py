"""A speech service of Pipecat and texts in; what was played, word by word, and what its agent
believes to have said out. For the scripts beside it.

The pipeline of a voice agent: tokens as from a language model, the service, a loudspeaker in real
time, and the assistant's half of the conversation's history.
"""

import asyncio
import dataclasses
from collections.abc import Callable

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionTaskFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    StartFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 12
RATE = 24_000
LONGEST_S = 40.0


@dataclasses.dataclass
class Turn:
    audio: bytes = b""
    kinds: list[str] = dataclasses.field(default_factory=list)
    words: list[str] = dataclasses.field(default_factory=list)
    said: str = ""
    """What the history of the conversation got."""
    sounded_s: float = 0.0
    """From the first sound to the last, or to the interruption."""


class Loudspeaker(BaseOutputTransport):
    """Plays in real time, into the turn of the moment."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True, audio_out_end_silence_secs=0))
        self.turn = Turn()
        self.interrupt_at_s: float | None = None
        self.was_interrupted = asyncio.Event()
        self._free_at_s = 0.0
        self._began_s = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        loop = asyncio.get_running_loop()
        self._free_at_s = max(self._free_at_s, loop.time()) + len(frame.audio) / (2 * RATE)
        if not self.turn.audio:
            self._began_s = loop.time()
        self.turn.audio += frame.audio
        self.turn.sounded_s = loop.time() - self._began_s
        if (
            self.interrupt_at_s is not None
            and len(self.turn.audio) / 2 / RATE > self.interrupt_at_s
        ):
            self.interrupt_at_s = None
            self.was_interrupted.set()
            await self.push_frame(InterruptionTaskFrame(), FrameDirection.UPSTREAM)
        await asyncio.sleep(self._free_at_s - loop.time())
        return True


class Ear(FrameProcessor):
    """Behind the loudspeaker: what has been heard."""

    def __init__(self, speaker: Loudspeaker) -> None:
        super().__init__()
        self._speaker = speaker
        self.has_stopped = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            self._speaker.turn.words.append(frame.text)
        if isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
            self._speaker.turn.kinds.append(type(frame).__name__)
        await self.push_frame(frame, direction)
        if isinstance(frame, TTSStoppedFrame):
            self.has_stopped.set()


class Agent:
    """One pipeline; to be used as a context manager."""

    def __init__(self, service: TTSService) -> None:
        self.errors: list[str] = []
        self._speaker = Loudspeaker()
        self._ear = Ear(self._speaker)
        self._context = LLMContext()
        assistant = LLMContextAggregatorPair(self._context).assistant()
        self._has_failed = asyncio.Event()
        self._task = PipelineTask(
            Pipeline([service, self._speaker, self._ear, assistant]),
            params=PipelineParams(audio_out_sample_rate=RATE),
        )
        self._turn_over = asyncio.Event()

        @self._task.event_handler("on_pipeline_error")
        async def note(_task: PipelineTask, frame: ErrorFrame) -> None:
            self.errors.append(str(frame.error))
            self._has_failed.set()

        @assistant.event_handler("on_assistant_turn_stopped")
        async def turn_over(_aggregator: object, _message: object) -> None:
            self._turn_over.set()

    async def __aenter__(self) -> "Agent":
        self._running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(self._task))
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._task.queue_frames([EndFrame()])
        await self._running

    async def say(self, text: str, *, interrupt_at_s: float | None = None) -> Turn:
        """Until it has been heard, or interrupted, or something has failed."""
        turn = self._speaker.turn = Turn()
        self._speaker.interrupt_at_s = interrupt_at_s
        self._speaker.was_interrupted.clear()
        self._ear.has_stopped.clear()
        self._turn_over.clear()
        num_before = len(self._context.messages)
        await self._task.queue_frame(LLMFullResponseStartFrame())
        for word in text.split():
            if not self._speaker.was_interrupted.is_set():  # a language model would be stopped
                await self._task.queue_frame(LLMTextFrame(word + " "))
                await asyncio.sleep(0.005)
        await self._task.queue_frame(LLMFullResponseEndFrame())
        over = self._turn_over.wait() if interrupt_at_s is not None else self._both()
        tasks = [asyncio.create_task(wait) for wait in (over, self._has_failed.wait())]
        done, rest = await asyncio.wait(
            tasks, timeout=LONGEST_S, return_when=asyncio.FIRST_COMPLETED
        )
        for task in rest:
            task.cancel()
        assert done, f"the turn has no end: {turn.kinds}, {len(turn.audio)} bytes"
        if interrupt_at_s is not None:
            await asyncio.sleep(1.0)  # whatever still comes would be heard in it
        added = self._context.messages[num_before:]
        turn.said = " ".join(str(message["content"]) for message in added)
        return turn

    async def _both(self) -> None:
        await self._ear.has_stopped.wait()
        await self._turn_over.wait()


async def failure(make: Callable[[], TTSService]) -> dict[str, object]:
    """What an agent learns whose service is refused."""
    async with Agent(make()) as agent:
        turn = await agent.say(TEXT)
    return {"errors": agent.errors, "audio_bytes": len(turn.audio)}
