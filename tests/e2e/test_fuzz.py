"""Whole sessions of nonsense: every message gets its answer, and nothing is lost or left behind."""

import asyncio
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from daemon.wire.protocol import Failed
from tests.e2e.wire import LONGEST_TEST_S, Running, Wire, run, running

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["", "Hello", " there. ", "Go on, ", "…", "好", "😀", "1.5 ", "x" * 300])
ACTIONS = st.one_of(
    st.tuples(st.just("open"), NAMES),
    st.tuples(st.just("text"), NAMES, TEXTS),
    st.tuples(st.just("flush"), NAMES),
    st.tuples(st.just("end"), NAMES),
    st.tuples(st.just("cancel"), NAMES),
    st.tuples(st.just("raw"), st.text(max_size=20)),
)
MEANT_ERRORS = {
    *("bad_json", "bad_message", "unknown_type", "unknown_context", "duplicate_context"),
    "text_after_end",
}


async def act(wire: Wire, action: tuple[str, ...]) -> None:
    match action:
        case ("raw", text):
            await wire.connection.send(text)
        case ("text", name, text):
            await wire.send("text", name, text=text)
        case ("open", name):
            await wire.send("open", name, max_lead_ms=120_000)
        case (kind, name):
            await wire.send(kind, name)


async def play(daemon: Running, actions: list[tuple[str, ...]]) -> None:
    """Do it all, then speak one good context: its end comes after the answers to all the rest."""
    async with daemon.wire() as wire:
        for action in actions:
            await act(wire, action)
        await wire.say("good", "All is well.", max_lead_ms=120_000)
        heard = await wire.hear("good")
        assert heard.samples().size == heard.end.samples
        errors = [error for error in wire.stray if isinstance(error, Failed)]
        for context in wire.heard.values():
            errors += context.of(Failed)
        assert {error.code for error in errors} <= MEANT_ERRORS
    await daemon.until(lambda: not daemon.engine.diary.busy)
    await daemon.until(lambda: daemon.daemon.num_sessions == 0)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(ACTIONS, max_size=25))
def test_any_session(actions: list[tuple[str, ...]]) -> None:
    """Orders of messages that nobody thought of, each against a daemon of its own."""

    async def talk() -> None:
        async with running() as daemon:
            await play(daemon, actions)

    run(talk())


def random_message(chance: random.Random) -> str:
    kind = chance.choice(["open", "text", "flush", "end", "cancel", "shout"])
    body: dict[str, object] = {"type": kind, "context": chance.choice("abcdefgh")}
    if kind == "text":
        body["text"] = chance.choice(["Hello there. ", "", "x", "好", "and on and on, "])
    if chance.random() < 0.1:
        body[chance.choice(["seed", "voice", "played_ms", "zzz"])] = chance.choice([1, "x", None])
    raw = json.dumps(body)
    if chance.random() < 0.05:
        position = chance.randrange(len(raw))
        raw = raw[:position] + chance.choice('{}[]"\\,:\x00é') + raw[position + 1 :]
    return raw


async def chatter(daemon: Running, *, num_messages: int, seed: int) -> None:
    """One session that reads everything and says nonsense."""
    chance = random.Random(seed)
    async with daemon.wire() as wire:

        async def listen() -> None:
            try:
                async for _ in wire.connection:
                    pass
            except ConnectionClosed as error:  # the daemon must never be the one who closes
                raise AssertionError(f"closed with {error.rcvd}") from error

        listening = asyncio.create_task(listen())
        for number in range(num_messages):
            await wire.connection.send(random_message(chance))
            if number % 16 == 0:  # a send that need not wait does not let others run
                await asyncio.sleep(0)
        assert not listening.done()
        listening.cancel()


@pytest.mark.parametrize("num_messages", [4_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_many_random_messages(num_messages: int) -> None:
    """No crash, no lost slot, no exception that only the log would show."""

    async def talk() -> None:
        settings = {"max_messages_per_s": 1_000_000, "max_wait_ms": 600_000}
        async with running(**settings) as daemon:  # type: ignore[arg-type]
            await asyncio.gather(
                *(chatter(daemon, num_messages=num_messages // 8, seed=seed) for seed in range(8))
            )
            await daemon.until(lambda: not daemon.engine.diary.busy)
            async with daemon.wire() as wire:
                assert (await wire.speak("a", "All is well.")).end.samples

    run(talk(), longest_s=LONGEST_TEST_S + num_messages / 200)
