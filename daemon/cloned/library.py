"""Clips and wishes of token holders in; voices that they alone speak with out, until these expire.

Says who may, keeps the order and the limits, and tells engine, disk and audit log of each voice.
Lives on the event loop. Knows no socket.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chatterbox.api import EngineInfo, VoiceUnfit
from daemon.cloned.store import ClonedVoice, VoiceStore
from daemon.cloned.worker import Made
from daemon.config import Config
from daemon.door.tokens import ANYBODY, Bearer
from daemon.watching.audit_log import AuditLog
from daemon.wire.errors import (
    ClipTooLarge,
    CloningFailed,
    CloningRefused,
    Draining,
    NoConsent,
    TooManyUploads,
    TooManyVoices,
    UnknownVoice,
    WireError,
)
from daemon.wire.voice_messages import MAKING, WAITING, CloningTerms, VoiceFacts, VoiceUpload

_log = logging.getLogger(__name__)

_SWEEP_S = 60.0
_HOUR_S = 3600.0

Result = TypeVar("Result")
OnProgress = Callable[[str, int], None]
"""Is told a state, and how many clips are before this one."""


class VoiceTaker(Protocol):
    """What the library asks of the engine thread."""

    async def add_voice(self, name: str, path: Path) -> None: ...

    def remove_voice(self, name: str) -> None: ...


class ClipListener(Protocol):
    """What it asks of whoever makes voices."""

    async def make(self, clip: Path, out: Path) -> Made: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Room for one clip, and for its voice; to be submitted or given back."""

    bearer: Bearer
    peer: str
    name: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVoice:
    """A voice, and what could be better about its clip."""

    voice: ClonedVoice
    warnings: Sequence[str]


class VoiceLibrary:
    """`clock` gives seconds of wall time: voices outlive the process."""

    def __init__(
        self,
        info: EngineInfo,
        config: Config,
        *,
        engine: VoiceTaker,
        maker: ClipListener,
        audit: AuditLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._info = info
        self._config = config
        self._engine = engine
        self._maker = maker
        self._audit = audit
        self._clock = clock
        self._store: VoiceStore | None = None
        self._voices: dict[str, ClonedVoice] = {}
        self._places: set[Place] = set()
        self._turn = asyncio.Lock()
        self._num_clips = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Load what an earlier daemon kept; at the end stop whatever is being made. Nothing touches
        the disk if the model cannot clone. Raises `ConfigError`."""
        if not self._info.can_clone:
            yield
            return
        self._store = await asyncio.to_thread(VoiceStore, self._config.state_folder)
        try:
            await self._load(self._store)
            self._spawn(self._sweep())
            yield
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._maker.close()
            await asyncio.to_thread(self._store.close)

    async def _load(self, store: VoiceStore) -> None:
        for voice in await asyncio.to_thread(store.load):
            if voice.is_expired(self._clock()):
                with contextlib.suppress(CloningFailed):  # logged
                    await self._put_away(voice, "voice_expired")
            elif voice.model != self._info.model:
                _log.info("voice %s was made for %s: not loaded", voice.id, voice.model)
            else:
                try:
                    await self._engine.add_voice(voice.id, store.path(voice.id))
                except VoiceUnfit as error:
                    _log.warning("voice %s is not loaded: %s", voice.id, error)
                else:
                    self._voices[voice.id] = voice

    # --- who has which ----------------------------------------------------------------------------

    @property
    def num_voices(self) -> int:
        return len(self._voices)

    def voices_of(self, bearer: Bearer) -> list[ClonedVoice]:
        """Oldest first."""
        now_s = self._clock()
        return [
            voice
            for voice in self._voices.values()
            if voice.owner == bearer.name and not voice.is_expired(now_s)
        ]

    def facts_of(self, bearer: Bearer) -> Sequence[VoiceFacts]:
        """What this bearer may open contexts with, besides the model's own voices."""
        return [
            VoiceFacts(
                voice=voice.id,
                name=voice.name,
                seconds=voice.seconds,
                expires_in_s=self.expires_in_s(voice),
            )
            for voice in self.voices_of(bearer)
        ]

    def terms_for(self, bearer: Bearer) -> CloningTerms | None:
        """None for those who may not upload."""
        if self._why_not(bearer) is not None:
            return None
        hours = self._config.voice_hours
        return CloningTerms(
            clip_bytes=self._config.max_clip_bytes,
            voices=self._config.max_voices_per_token,
            lifetime_s=round(hours * _HOUR_S) if hours else None,
        )

    def expires_in_s(self, voice: ClonedVoice) -> int | None:
        return voice.expires_in_s(self._clock())

    def _why_not(self, bearer: Bearer) -> str | None:
        if not self._info.can_clone:
            return f"the model {self._info.model} cannot make voices of clips"
        if self._config.cloning == "nobody":
            return "this daemon takes no clips"
        if self._config.cloning == "tokens" and bearer.name == ANYBODY.name:
            return "this daemon takes clips only from those who show a token"
        return None if bearer.may_clone else "this token may not upload clips"

    # --- coming -----------------------------------------------------------------------------------

    def reserve(self, wish: VoiceUpload, *, bearer: Bearer, peer: str) -> Place:
        """Raises the `WireError` that says why there is no room."""
        refusal = self._why_not(bearer)
        if refusal is not None:
            raise CloningRefused(refusal)
        if not wish.consent:
            raise NoConsent("no voice is made without the consent of whoever speaks in the clip")
        most_bytes = self._config.max_clip_bytes
        if wish.bytes > most_bytes:
            raise ClipTooLarge(f"{wish.bytes} bytes are more than {most_bytes}")
        num_coming = Counter(place.bearer.name for place in self._places)
        most = self._config.max_voices_per_token
        if len(self.voices_of(bearer)) + num_coming[bearer.name] >= most:
            raise TooManyVoices(f"there are {most} voices of this token, and no more may be")
        if len(self._voices) + len(self._places) >= self._config.max_voices:
            raise TooManyVoices("the daemon has as many voices as it may have")
        num_free = self._config.max_uploads - len(self._places)
        if num_free <= 0:
            raise TooManyUploads(f"{self._config.max_uploads} clips are being worked on")
        # So that whoever announces clip after clip leaves room for others, and they for others.
        if num_free <= num_coming[bearer.name]:
            raise TooManyUploads(
                f"{num_coming[bearer.name]} clips of this token are being worked on"
            )
        place = Place(bearer=bearer, peer=peer, name=wish.name, num_bytes=wish.bytes)
        self._places.add(place)
        return place

    def give_back(self, place: Place) -> None:
        self._places.discard(place)

    def submit(
        self, place: Place, clip: bytes, *, on_progress: OnProgress
    ) -> "asyncio.Task[NewVoice]":
        """The voice is made whether or not anybody waits for it. Raises `WireError`, then nothing
        is left of the clip."""
        return self._spawn(self._make(place, clip, on_progress))

    async def _make(self, place: Place, clip: bytes, on_progress: OnProgress) -> NewVoice:
        voice_id = "v-" + secrets.token_hex(12)
        digest = await asyncio.to_thread(lambda: hashlib.sha256(clip).hexdigest())
        facts = {
            "voice": voice_id,
            "token": place.bearer.name,
            "peer": place.peer,
            "consent": True,
            "sha256": digest,
            "bytes": len(clip),
        }
        ahead, self._num_clips = self._num_clips, self._num_clips + 1
        if ahead:
            on_progress(WAITING, ahead)
        assert self._store is not None, "only opened libraries have places"
        try:
            async with self._turn:
                on_progress(MAKING, 0)
                return await self._make_now(self._store, place, facts, clip)
        except WireError as error:
            await self._note_failure(facts, error)
            raise
        except asyncio.CancelledError:
            await self._note_failure(facts, Draining("the daemon was stopped"))
            raise
        except Exception as error:
            _log.exception("the voice %s could not be kept", voice_id)
            failure = CloningFailed("the daemon could not keep the voice")
            await self._note_failure(facts, failure)
            raise failure from error
        finally:
            self._num_clips -= 1
            self._store.forget_work(voice_id)
            self.give_back(place)

    async def _make_now(
        self, store: VoiceStore, place: Place, facts: dict[str, Any], clip: bytes
    ) -> NewVoice:
        clip_path, made_path = store.new_work(facts["voice"])
        await asyncio.to_thread(store.write_clip, clip_path, clip)
        made = await self._maker.make(clip_path, made_path)
        now_s, hours = self._clock(), self._config.voice_hours
        voice = ClonedVoice(
            id=facts["voice"],
            owner=place.bearer.name,
            name=place.name,
            model=self._info.model,
            consent=True,
            peer=place.peer,
            clip_sha256=facts["sha256"],
            clip_bytes=len(clip),
            seconds=made.seconds,
            made_s=now_s,
            expires_s=now_s + hours * _HOUR_S if hours else None,
        )
        try:
            await self._engine.add_voice(voice.id, made_path)
        except VoiceUnfit as error:
            _log.error("the engine does not take a new voice: %s", error)  # it names our files
            raise CloningFailed("the model does not take the voice") from error
        try:
            await _to_its_end(lambda: self._keep(store, voice, made_path, facts))
        except OSError:
            self._engine.remove_voice(voice.id)
            await asyncio.to_thread(store.delete, voice.id)
            raise
        self._voices[voice.id] = voice
        return NewVoice(voice=voice, warnings=made.warnings)

    def _keep(
        self, store: VoiceStore, voice: ClonedVoice, made: Path, facts: dict[str, Any]
    ) -> None:
        """Noted first: a voice that the log does not know must not exist. Blocking."""
        self._audit.note("voice_uploaded", **facts, seconds=voice.seconds, name=voice.name)
        store.keep(voice, made)

    # --- going ------------------------------------------------------------------------------------

    def delete(self, voice_id: str, *, bearer: Bearer, peer: str) -> "asyncio.Task[None]":
        """Nobody gets it any more from now on; the task ends when nothing is left of it on the
        disk, or raises `CloningFailed`. Raises `UnknownVoice` for one that is not the bearer's."""
        if voice_id not in (voice.id for voice in self.voices_of(bearer)):
            raise UnknownVoice(f"there is no voice {voice_id!r} of yours")
        return self._spawn(self._let_go(self._voices.pop(voice_id), "voice_deleted", peer=peer))

    async def expire(self) -> None:
        """Let go of all whose time is over."""
        now_s = self._clock()
        for voice in [voice for voice in self._voices.values() if voice.is_expired(now_s)]:
            # Deleted meanwhile, while another one was put away.
            if self._voices.pop(voice.id, None) is not None:
                await self._let_go(voice, "voice_expired")

    async def _let_go(self, voice: ClonedVoice, event: str, **facts: object) -> None:
        self._engine.remove_voice(voice.id)
        await self._put_away(voice, event, **facts)

    async def _put_away(self, voice: ClonedVoice, event: str, **facts: object) -> None:
        assert self._store is not None, "it was kept there"
        try:
            await asyncio.to_thread(self._forget, self._store, voice, event, facts)
        except OSError as error:
            _log.exception("the files of voice %s are still there", voice.id)
            raise CloningFailed("the voice is not offered any more, but still stored") from error

    def _forget(
        self, store: VoiceStore, voice: ClonedVoice, event: str, facts: dict[str, object]
    ) -> None:
        """In one go: a daemon that is stopped meanwhile does both or neither. Blocking."""
        store.delete(voice.id)
        known = {"voice": voice.id, "token": voice.owner, "sha256": voice.clip_sha256}
        self._note_if_possible(event, **known, **facts)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            with contextlib.suppress(CloningFailed):  # logged; the next start tries again
                await self.expire()

    async def _note_failure(self, facts: dict[str, Any], error: WireError) -> None:
        known = facts | {"code": error.code, "why": error.message}
        await asyncio.to_thread(self._note_if_possible, "upload_failed", **known)

    def _note_if_possible(self, event: str, **facts: object) -> None:
        """Of what has happened anyway: a full disk is a matter of the log then. Blocking."""
        try:
            self._audit.note(event, **facts)
        except OSError:
            _log.exception("the audit log took no %s of %s", event, facts)

    def _spawn(self, coroutine: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _to_its_end(work: Callable[[], None]) -> None:
    """Work on the disk that nothing leaves half done: a cancellation that comes meanwhile comes too
    late."""
    working = asyncio.create_task(asyncio.to_thread(work))
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(working)
    await asyncio.wait({working})
    working.result()
