/** Pure parts of the page: the place in the text, the history of an utterance, typing. */

import { LiveTyping } from "/composer.js";
import { PlaceInText } from "/reading.js";
import { History } from "/timeline.js";

function equal(actual, expected, what = "") {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`);
}

class FakeUtterance extends EventTarget {
  said = [];
  write(text) {
    this.said.push(text);
  }
  flush() {
    this.said.push("FLUSH");
  }
  end() {
    this.isEnded = true;
    this.said.push("END");
  }
  cancel() {
    this.isOver = true;
    this.said.push("CANCEL");
  }
}

/** Timers that fire when told to. */
function withTimers(act) {
  const [realSet, realClear] = [globalThis.setTimeout, globalThis.clearTimeout];
  const timers = new Map();
  let next = 1;
  globalThis.setTimeout = (call, ms) => (timers.set(next, { call, ms }), next++);
  globalThis.clearTimeout = (id) => timers.delete(id);
  const pass = (ms) => {
    for (const [id, timer] of [...timers]) {
      if (timer.ms <= ms && timers.delete(id)) timer.call();
    }
  };
  try {
    act(pass);
  } finally {
    [globalThis.setTimeout, globalThis.clearTimeout] = [realSet, realClear];
  }
}

function typed() {
  const utterances = [];
  const typing = new LiveTyping(() => (utterances.push(new FakeUtterance()), utterances.at(-1)));
  return { typing, utterances, said: () => utterances.map(({ said }) => said) };
}

export const cases = {
  "words go out when they are complete, each once"() {
    withTimers(() => {
      const { typing, said } = typed();
      for (const value of ["H", "He", "Hey", "Hey ", "Hey y", "Hey you", "Hey you,"]) typing.take(value);
      equal(said(), [["Hey ", "you,"]]);
    });
  },

  "half a word may be corrected before it goes out"() {
    withTimers(() => {
      const { typing, said } = typed();
      for (const value of ["one t", "one tw", "one t", "one three "]) typing.take(value);
      equal(said(), [["one ", "three "]]);
    });
  },

  "a writer who stalls hears the half word, and the end follows when it is quiet"() {
    withTimers((pass) => {
      const { typing, utterances, said } = typed();
      typing.take("good morn");
      pass(1200);
      equal(said(), [["good ", "morn", "FLUSH"]]);
      utterances[0].dispatchEvent(new Event("start"));
      pass(3000);
      equal(said(), [["good ", "morn", "FLUSH"]], "still sounding");
      utterances[0].dispatchEvent(new Event("pause"));
      pass(3000);
      equal(said(), [["good ", "morn", "FLUSH", "END"]]);
      typing.take("good morning ");
      equal(said()[1], ["ing "], "more text is another utterance");
    });
  },

  "changing what was said stops it and goes on from the changed word"() {
    withTimers(() => {
      const { typing, said } = typed();
      typing.take("the red house ");
      typing.take("the blue house ");
      equal(said(), [["the red house ", "CANCEL"], ["blue house "]]);
    });
  },

  "emptying the box is silence"() {
    withTimers((pass) => {
      const { typing, said } = typed();
      typing.take("stop it ");
      typing.take("");
      pass(10_000);
      equal(said(), [["stop it ", "CANCEL"]]);
    });
  },

  "the place in the text goes from word to word, and rests in pauses"() {
    const place = new PlaceInText(1000);
    equal(place.charAt(0), null, "before the first segment");
    place.addSegment({ start: 0, sample: 0 });
    equal(place.charAt(0.05), 0, "the first word is not told yet, but it has begun");
    place.addWords({
      words: [
        { text: "ab", start: 0, end: 2, sample: 20, end_sample: 400 },
        { text: "cd", start: 3, end: 5, sample: 500, end_sample: 900 },
      ],
    });
    equal(place.charAt(0.45), 0, "between two words it is still the first one");
    equal(place.charAt(0.5), 3);
    place.addSegment({ start: 7, sample: 1200 });
    equal(place.charAt(1.19), 3);
    equal(place.charAt(1.2), 7);
    equal(place.charAt(99), 7);
  },

  "the real-time factor is taken before the daemon has to wait for the listener"() {
    const history = new History();
    history.setLead(1000);
    history.noteText(5000);
    for (let packet = 0; packet < 80; packet += 1) history.notePacket(5100 + packet * 5, 20);
    equal(Number(history.realTimeFactor.toFixed(3)), Number((390 / 1180).toFixed(3)));
    for (let packet = 0; packet < 100; packet += 1) history.notePacket(6000 + packet * 20, 20);
    equal(history.realTimeFactor < 0.34, true, "later packets are paced");
    equal(history.firstPacketMs, 100);
  },

  "silences end what is heard, and only underruns count"() {
    const history = new History();
    history.noteText(0);
    history.notePacket(80, 20);
    history.notePlaying(100);
    history.noteSound(110);
    history.noteSilence(300, { isUnderrun: true });
    history.notePlaying(500);
    history.noteEnd(900);
    equal(history.heard, [{ from: 100, to: 300 }, { from: 500, to: 900 }]);
    equal(history.underruns, [300]);
    equal(history.describe(), "First packet after 80 ms, first sound after 110 ms, 1 underrun, ended after 900 ms.");
  },
};
