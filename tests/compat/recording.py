"""What a real client sent, and after what: one JSON object a line in a file of recorded/.

The first line says who spoke. Then `opens` begins a conversation (one WebSocket, one HTTP request
or one Wyoming connection), `sends` is one message of its client, `leaves` the client's end of it.
With each goes `after`: how often each kind of answer had come by then. Kinds that come in rows
(audio, words) count a row once, so that a daemon that cuts its audio otherwise still fits.
"""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
KEY = "the-key-of-the-compat-tests"
_IN_ROWS = frozenset({"audio", "chunk", "timestamps", "body", "audio-chunk", "alignment"})
_KEPT_HEADERS = frozenset(
    {
        "accept",
        "authorization",
        "cartesia-version",
        "content-type",
        "user-agent",
        "x-api-key",
        "xi-api-key",
    }
)


def kind_of(message: str | bytes) -> str:
    """Of a WebSocket message of the daemon, in any dialect."""
    if isinstance(message, bytes):
        return "audio"
    body = json.loads(message)
    if "type" in body:
        return str(body["type"])
    if body.get("isFinal"):
        return "final"
    return "audio" if body.get("audio") else ",".join(sorted(body))


class Tally:
    """Kinds of answers → how often; rows count once."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._row: set[str] = set()

    def note(self, kind: str) -> None:
        is_receipt = kind == "Flushed" and "Connected" in self._counts  # of Flux, in mid-speech
        if kind not in _IN_ROWS and not is_receipt:
            self._row.clear()
        elif kind in self._row:
            return
        elif not is_receipt:
            self._row.add(kind)
        self._counts[kind] += 1

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._counts)

    def has(self, counts: dict[str, int]) -> bool:
        return all(self._counts[kind] >= number for kind, number in counts.items())


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    sends: str | None
    """None for the client's end of the conversation."""
    after: dict[str, int]
    at_ms: int


@dataclasses.dataclass(slots=True)
class Conversation:
    opens: str
    """websocket, http or wyoming"""
    path: str = ""
    method: str = "GET"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: list[Step] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class Recording:
    client: str
    dialect: str
    conversations: list[Conversation]

    def save(self, path: Path) -> None:
        lines: list[dict[str, Any]] = [{"client": self.client, "dialect": self.dialect}]
        for number, conversation in enumerate(self.conversations, start=1):
            fields = dataclasses.asdict(conversation)
            steps = fields.pop("steps")
            lines.append({"conversation": number, **fields})
            for step in steps:
                ends = {"leaves": True} if step["sends"] is None else {"sends": step["sends"]}
                kept = {"after": step["after"], "at_ms": step["at_ms"]}
                lines.append({"conversation": number, **ends, **kept})
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def load(path: Path) -> Recording:
    first, *lines = (json.loads(line) for line in path.read_text().splitlines())
    recording = Recording(first["client"], first["dialect"], [])
    for line in lines:
        number = line.pop("conversation")
        if "opens" in line:
            assert number == len(recording.conversations) + 1, path
            recording.conversations.append(Conversation(**line))
            continue
        line.pop("leaves", None)
        step = Step(**({"sends": None} | line))
        recording.conversations[number - 1].steps.append(step)
    return recording


def kept_headers(headers: Any) -> dict[str, str]:
    """Without what belongs to the machine or the moment. `headers` has `items()`."""
    return {name.lower(): value for name, value in headers.items() if name.lower() in _KEPT_HEADERS}
