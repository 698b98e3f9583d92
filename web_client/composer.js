/**
 * What is typed into the text box in, utterances out: on Enter, or word by word while typing.
 *
 * Knows no sound and no protocol: `speak(text?)` gives an utterance to write to.
 */

const IDLE_FLUSH_MS = 1200;
const IDLE_END_MS = 3000;
/** Up to here no word can grow any more. */
const COMPLETE = /^[^]*[\s.,;:!?…]/u;

/** Sends what is typed as soon as it can no longer change into another word. */
export class LiveTyping {
  constructor(speak) {
    this._speak = speak;
    this._utterance = null;
    this._isDry = false;
    /** The beginning of the text box that was written to some utterance. */
    this._dealt = "";
    this._timers = [];
  }

  /** Treat what is in the box as said: only what follows it will be spoken. */
  skip(value) {
    this._dealt = value;
    this._stopTimers();
  }

  take(value) {
    this._stopTimers();
    if (!value.startsWith(this._dealt)) this._goBackTo(value);
    const pending = value.slice(this._dealt.length);
    this._write(COMPLETE.exec(pending)?.[0] ?? "");
    if (value.endsWith("\n")) this._utterance?.flush();
    if (value) this._startTimers(value);
  }

  /** What was said already was changed: it cannot be unsaid, so go on from the changed word. */
  _goBackTo(value) {
    let same = 0;
    while (same < value.length && value[same] === this._dealt[same]) same += 1;
    this._dealt = value.slice(0, same).match(/^[^]*\s/u)?.[0] ?? "";
    this._utterance?.cancel();
    this._utterance = null;
  }

  _write(text) {
    if (!text) return;
    if (!this._utterance || this._utterance.isOver || this._utterance.isEnded) {
      if (!text.trim()) return;
      this._open();
    }
    this._utterance.write(text);
    this._dealt += text;
  }

  _open() {
    const utterance = this._speak();
    this._utterance = utterance;
    this._isDry = true;
    for (const type of ["start", "resume"]) {
      utterance.addEventListener(type, () => {
        this._isDry = false;
      });
    }
    for (const type of ["pause", "underrun"]) {
      utterance.addEventListener(type, () => {
        this._isDry = true;
      });
    }
  }

  _startTimers(value) {
    const flush = () => {
      this._write(value.slice(this._dealt.length));
      this._utterance?.flush();
    };
    const end = () => {
      if (this._isDry) this._utterance?.end();
      else this._timers.push(setTimeout(end, IDLE_END_MS));
    };
    this._timers.push(setTimeout(flush, IDLE_FLUSH_MS), setTimeout(end, IDLE_END_MS));
  }

  _stopTimers() {
    for (const timer of this._timers) clearTimeout(timer);
    this._timers = [];
  }
}

const DEMO = `You asked why the sky is blue. Sunlight looks white, but it is a mixture of every colour of \
the rainbow. On its way through the air it meets molecules that are far smaller than its wavelength, and \
those scatter blue light much more than red. So blue reaches your eye from all over the sky, and what is \
left of the sun looks a little yellow. In the evening the light has a longer way to go: most of the blue \
is lost before it arrives, and the sky turns orange and red.`;
const DEMO_WORDS_PER_S = 14;

/** Words as a language model writes them. */
export async function* assistantWriting(text = DEMO, wordsPerS = DEMO_WORDS_PER_S) {
  for (const word of text.match(/\S+\s*/gu)) {
    yield word;
    await new Promise((resolve) => setTimeout(resolve, 1000 / wordsPerS));
  }
}
