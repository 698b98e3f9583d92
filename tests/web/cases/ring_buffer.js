/** web_client/ring-buffer.js: when playing starts, that nothing is lost, and that no edge clicks. */

import { PlaybackBuffer, SampleRing, StartThreshold } from "/ring-buffer.js";

const RATE = 48_000;
const BLOCK = 128;
const FADE = 240;
const LARGEST_STEP = 0.02;

function tone(length, from = 0) {
  return Float32Array.from({ length }, (_, n) => 0.5 * Math.sin((2 * Math.PI * 200 * (from + n)) / RATE));
}

function newBuffer(thresholdSamples = 480) {
  const threshold = new StartThreshold(RATE);
  threshold.samples = thresholdSamples;
  const events = [];
  const buffer = new PlaybackBuffer({
    sampleRate: RATE,
    threshold,
    onEvent: (name, detail) => events.push({ name, ...detail }),
  });
  const names = () => events.map(({ name }) => name);
  return { buffer, threshold, events, names };
}

function play(buffer, numBlocks) {
  const out = new Float32Array(numBlocks * BLOCK);
  for (let block = 0; block < numBlocks; block += 1) {
    buffer.render(out.subarray(block * BLOCK, (block + 1) * BLOCK));
  }
  return out;
}

function equal(actual, expected, what) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a} is not ${b}`);
}

function largestStep(samples) {
  let largest = 0;
  for (let n = 1; n < samples.length; n += 1) {
    largest = Math.max(largest, Math.abs(samples[n] - samples[n - 1]));
  }
  return largest;
}

const isSilent = (samples) => samples.every((sample) => sample === 0);

export const cases = {
  "pieces of any size come out as the whole"() {
    const { buffer, names } = newBuffer();
    const whole = tone(5000);
    for (let from = 0, size = 1; from < whole.length; from += size, size = (size * 7) % 997 || 1) {
      buffer.push(whole.slice(from, from + size));
    }
    buffer.end();
    const out = play(buffer, 60);
    equal(Array.from(out.slice(0, 5000)), Array.from(whole), "samples");
    equal(isSilent(out.slice(5000)), true, "silence after the end");
    equal(names(), ["start", "sound", "end"], "events");
    equal(buffer.position, 5000, "position");
  },

  "a ring that grows while it is wrapped keeps its order"() {
    const ring = new SampleRing({ capacity: 8, most: 64 });
    ring.push(Float32Array.of(0, 1, 2, 3, 4, 5));
    ring.drop(5);
    ring.push(Float32Array.of(6, 7, 8, 9, 10, 11)); // wraps
    ring.push(Float32Array.of(12, 13, 14)); // grows
    equal(Array.from({ length: ring.length }, (_, n) => ring.at(n)), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14], "order");
    equal(ring.push(new Float32Array(60)), false, "more than the bound");
    equal(ring.length, 10, "nothing was taken of it");
  },

  "nothing is played before the threshold is held"() {
    const { buffer, names } = newBuffer(2000);
    buffer.push(tone(1900));
    equal(isSilent(play(buffer, 4)), true, "too little is here");
    buffer.push(tone(200, 1900));
    equal(isSilent(play(buffer, 1)), false, "enough is here");
    equal(names().slice(0, 1), ["start"], "events");
  },

  "less than the threshold is played once it has waited as long"() {
    const { buffer } = newBuffer(2000);
    buffer.push(tone(600));
    equal(isSilent(play(buffer, 15)), true, "1920 samples later");
    equal(isSilent(play(buffer, 2)), false, "a single short word must not wait for ever");
  },

  "an end lets out what is below the threshold"() {
    const { buffer, names } = newBuffer(40_000);
    buffer.push(tone(50));
    buffer.end();
    const out = play(buffer, 2);
    equal(Array.from(out.slice(0, 50)), Array.from(tone(50)), "samples");
    equal(names().at(-1), "end", "events");
  },

  "running dry in sound fades out, comes back fading in, and loses nothing"() {
    const { buffer, names, events, threshold } = newBuffer(480);
    const whole = tone(9600);
    buffer.push(whole.slice(0, 2000));
    const first = play(buffer, 30);
    equal(names(), ["start", "sound", "underrun"], "events");
    equal(threshold.samples, 720, "the threshold rises");
    const dry = events[2].position;
    equal(dry <= 2000 && dry > 2000 - BLOCK - FADE, true, `dry at ${dry}`);
    buffer.push(whole.slice(2000));
    buffer.end();
    const second = play(buffer, 80);
    const both = Float32Array.of(...first, ...second);
    if (largestStep(both) > LARGEST_STEP) throw new Error(`a click: ${largestStep(both)}`);
    equal(names().slice(3), ["resume", "end"], "events");
    equal(buffer.position, 9600, "every sample was played");
    const rest = second.slice(FADE, 9600 - dry);
    equal(Array.from(rest), Array.from(whole.slice(dry + FADE)), "after the fade");
  },

  "running dry in silence is a pause: exact, and no underrun"() {
    const { buffer, names, threshold } = newBuffer(480);
    const word = Float32Array.of(...tone(2400), ...new Float32Array(1440));
    buffer.push(word);
    const first = play(buffer, 40);
    equal(names(), ["start", "sound", "pause"], "events");
    equal(Array.from(first.slice(0, word.length)), Array.from(word), "samples");
    threshold.samples = 3000;
    buffer.push(word);
    buffer.end();
    const second = play(buffer, 40);
    equal(Array.from(second.slice(0, word.length)), Array.from(word), "without a fade");
    equal(threshold.samples, 2400, "a clean utterance lowers the threshold");
  },

  "a stop is silent within five milliseconds of the next block, without a click"() {
    const { buffer, names } = newBuffer();
    buffer.push(tone(48_000));
    const before = play(buffer, 20);
    buffer.stop();
    const after = play(buffer, 10);
    if (largestStep(Float32Array.of(...before, ...after)) > LARGEST_STEP) throw new Error("a click");
    equal(isSilent(after.slice(FADE + 1)), true, "after the ramp");
    equal(names().at(-1), "stopped", "events");
    buffer.push(tone(4800));
    equal(isSilent(play(buffer, 10)), true, "late samples are not played");
  },

  "a stop before the first sound never sounds"() {
    const { buffer, names } = newBuffer(4000);
    buffer.push(tone(1000));
    buffer.stop();
    equal(buffer.isOver, true, "over");
    equal(names(), ["stopped"], "events");
    equal(isSilent(play(buffer, 50)), true, "silence");
  },

  "late samples that come during a fade turn it back without a click"() {
    const { buffer, names } = newBuffer(480);
    const whole = tone(9600);
    buffer.push(whole.slice(0, 1000));
    const out = [...play(buffer, 5)]; // 360 are left: the next block begins to fade
    out.push(...play(buffer, 1));
    buffer.push(whole.slice(1000));
    buffer.end();
    out.push(...play(buffer, 80));
    if (largestStep(out) > LARGEST_STEP) throw new Error("a click");
    equal(names(), ["start", "sound", "end"], "it was no underrun");
    equal(buffer.position, 9600, "position");
  },

  "the threshold stays within its bounds"() {
    const threshold = new StartThreshold(RATE);
    for (let n = 0; n < 50; n += 1) threshold.raise();
    equal(threshold.samples, RATE, "one second");
    for (let n = 0; n < 50; n += 1) threshold.lower();
    equal(threshold.samples, (40 * RATE) / 1000, "two packets");
  },

  "more than the bound stops the utterance and says so"() {
    const { buffer, names } = newBuffer(RATE * 1000);
    for (let second = 0; second < 151; second += 1) buffer.push(new Float32Array(RATE));
    equal(names(), ["overflow", "stopped"], "events");
    equal(buffer.isOver, true, "over");
  },
};
