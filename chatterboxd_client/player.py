"""16-bit mono PCM in, sound out, through whatever player the machine has."""

import asyncio
import contextlib
import shutil
from typing import Self

from numpy import int16
from numpy.typing import NDArray


def _command(sample_rate: int) -> list[str] | None:
    """The first player found that reads raw PCM from its standard input."""
    rate = str(sample_rate)
    candidates = (
        ["aplay", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", rate, "-"],
        ["paplay", "--raw", "--format=s16le", "--channels=1", f"--rate={rate}"],
        ["ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-f", "s16le", "-ar", rate, "-"],
    )
    return next((command for command in candidates if shutil.which(command[0])), None)


class Player:
    """Plays while audio is still arriving. What the player cannot take yet waits in memory."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, *, sample_rate: int) -> Self | None:
        """None if the machine has no player."""
        command = _command(sample_rate)
        if command is None:
            return None
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        return cls(process, command[0])

    def play(self, samples: NDArray[int16]) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(samples.astype("<i2").tobytes())

    async def finish(self) -> bool:
        """Wait until everything was heard. False if the player failed (no sound device, say)."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.drain()
            self._process.stdin.close()
            await self._process.stdin.wait_closed()
        return await self._process.wait() == 0

    async def stop(self) -> None:
        """Fall silent at once; nothing if the player has ended by itself."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
