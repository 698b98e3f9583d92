"""BASE_URL KEY FOLDER in; FOLDER/*.pcm and one JSON line out: Pipecat's OpenAI service in a
pipeline.
"""

import asyncio
import json
import sys
from pathlib import Path

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionTaskFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.tts import OpenAITTSService

TEXT = "The train leaves at nine. Please be at the station early."
LONG = "This is one more sentence that nobody will hear to its end. " * 40


class Ear(FrameProcessor):
    """Where a transport would be."""

    def __init__(self, *, interrupts: bool) -> None:
        super().__init__()
        self.audio = b""
        self.kinds: list[str] = []
        self.errors: list[str] = []
        self._interrupts = interrupts
        self.is_over = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.audio += frame.audio
            if self._interrupts:
                self._interrupts = False
                await self.push_frame(InterruptionTaskFrame(), FrameDirection.UPSTREAM)
        if isinstance(frame, TTSStartedFrame | TTSStoppedFrame):
            self.kinds.append(type(frame).__name__)
        if isinstance(frame, TTSStoppedFrame):
            self.is_over.set()
        await self.push_frame(frame, direction)


async def speak(base_url: str, key: str, text: str, *, interrupts: bool = False) -> Ear:
    service = OpenAITTSService(
        base_url=base_url, api_key=key, settings=OpenAITTSService.Settings(voice="alloy")
    )
    ear = Ear(interrupts=interrupts)
    task = PipelineTask(
        Pipeline([service, ear]), params=PipelineParams(audio_out_sample_rate=24_000)
    )

    @task.event_handler("on_pipeline_error")
    async def note(_task: PipelineTask, frame: ErrorFrame) -> None:
        ear.errors.append(str(frame.error))
        ear.is_over.set()

    async def talk() -> None:
        await task.queue_frames([TTSSpeakFrame(text)])
        if interrupts:
            await asyncio.sleep(3.0)
        else:
            async with asyncio.timeout(60):
                await ear.is_over.wait()
        await task.queue_frames([EndFrame()])

    await asyncio.gather(PipelineRunner(handle_sigint=False).run(task), talk())
    return ear


async def main(base_url: str, key: str, folder: Path) -> dict[str, object]:
    heard = await speak(base_url, key, TEXT)
    (folder / "pipeline.pcm").write_bytes(heard.audio)
    cut = await speak(base_url, key, LONG, interrupts=True)
    wrong = await speak(base_url, "not-the-right-key-at-all", TEXT)
    return {
        "kinds": heard.kinds,
        "interrupted_s": len(cut.audio) / 48_000,
        "errors": wrong.errors,
        "audio_of_error": len(wrong.audio),
    }


if __name__ == "__main__":
    report = asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    sys.stdout.write(json.dumps(report) + "\n")
