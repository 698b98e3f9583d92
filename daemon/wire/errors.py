"""What can go wrong on the wire: an exception in, one error code or close code out. A leaf.

WireError                    refused in-band; the session goes on
├── BadJson … Draining       about one client message
├── CloningRefused … CloningFailed   about a voice, or the upload that it names
├── SegmentLost              one segment is left out
└── ContextLost              ends one context: Busy, EngineFailed
SessionClosed                ends one session, with a WebSocket close code
├── GoingAway                1001
├── BinaryMessage            1003
├── SlowReader               1008
└── EngineBroken             1011
"""

from typing import ClassVar


class WireError(Exception):
    """Told to the client as an `error` message. `hint` says what to do about it."""

    code: ClassVar[str]
    hint: ClassVar[str]
    final: ClassVar[bool] = False

    def __init__(self, message: str, *, context: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.context = context
        self.upload: str | None = None


class BadJson(WireError):
    code = "bad_json"
    hint = "Send one JSON object in each text message."


class BadMessage(WireError):
    code = "bad_message"
    hint = "Compare the message with docs/protocol.md section 1."


class UnknownType(WireError):
    code = "unknown_type"
    hint = "Use one of open, text, flush, end, cancel, voice_upload, voice_list, voice_delete."


class UnknownContext(WireError):
    code = "unknown_context"
    hint = "Open the context first; a context that has ended is gone."


class DuplicateContext(WireError):
    code = "duplicate_context"
    hint = "Choose another name, or wait until this context has ended."


class TooManyContexts(WireError):
    code = "too_many_contexts"
    hint = "End or cancel a context first; limits.contexts in begin says how many may live."


class UnknownVoice(WireError):
    code = "unknown_voice"
    hint = "Choose one of the voices in begin."


class UnknownFormat(WireError):
    code = "unknown_format"
    hint = "Choose one of the formats in begin."


class UnknownLanguage(WireError):
    code = "unknown_language"
    hint = "Choose one of the languages in begin."


class BadOption(WireError):
    code = "bad_option"
    hint = "Keep to the names and ranges of options in begin."


class TextTooLong(WireError):
    code = "text_too_long"
    hint = "End this context and send the rest in a new one; see limits.text_chars in begin."


class TextAfterEnd(WireError):
    code = "text_after_end"
    hint = "Open a new context for more text."


class Draining(WireError):
    code = "draining"
    hint = "Connect again in a moment; the daemon is restarting."


class CloningRefused(WireError):
    code = "cloning_refused"
    hint = "Ask the operator; begin.cloning is there for those who may."


class NoConsent(WireError):
    code = "no_consent"
    hint = "Ask whoever speaks in the clip, and send consent: true if they agree."


class ClipTooLarge(WireError):
    code = "clip_too_large"
    hint = "Send a shorter clip, or a compressed one; see begin.cloning.clip_bytes."


class TooManyVoices(WireError):
    code = "too_many_voices"
    hint = "Delete a voice first; see begin.cloning.voices."


class TooManyUploads(WireError):
    code = "too_many_uploads"
    hint = "Wait until the clip before this one has become a voice, and try again."


class ClipLate(WireError):
    code = "clip_late"
    hint = "Send the clip again, faster."


class ClipUnfit(WireError):
    code = "clip_unfit"
    hint = "Send another clip: 6 to 20 s of one person who speaks clearly, nothing else."


class CloningFailed(WireError):
    code = "cloning_failed"
    hint = "Try again; if it fails again, tell the operator."


class SegmentLost(WireError):
    """One segment is left out; its context goes on."""

    code = "segment_failed"
    hint = "Listen on; send the text of this segment again if it matters."


class ContextLost(WireError):
    """Ends the context that it names."""

    final = True


class Busy(ContextLost):
    code = "busy"
    hint = "Try again in a few seconds, or connect to another daemon."


class EngineFailed(ContextLost):
    code = "engine_failed"
    hint = "Connect again in a moment; the daemon is restarting."


class SessionClosed(Exception):
    """Ends the session with `close_code`; its text is the close reason (at most 123 bytes)."""

    close_code: ClassVar[int]


class GoingAway(SessionClosed):
    close_code = 1001


class BinaryMessage(SessionClosed):
    close_code = 1003


class SlowReader(SessionClosed):
    close_code = 1008


class EngineBroken(SessionClosed):
    close_code = 1011
