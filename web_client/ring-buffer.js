/**
 * Samples of one utterance in, as they arrive; samples to play out, without a click at any edge.
 *
 * Pure: no audio device, no clock but the number of samples asked for. All positions and durations
 * are samples at the rate of whoever calls `render`.
 */

const FADE_MS = 5;
/** A speaker's pause: the daemon ends every phrase with at least so much silence. */
const PAUSE_MS = 3;
/** Below this nobody hears that sound begins or stops: -50 dBFS. */
export const AUDIBLE = 10 ** (-50 / 20);
const FIRST_CAPACITY_S = 8;
const LARGEST_CAPACITY_S = 150;

const THRESHOLD_MS = { first: 60, least: 40, most: 1000 };
const RAISE = 1.5;
const LOWER = 0.8;

/**
 * How much audio to hold before playing starts. Raised by every underrun, lowered by every utterance
 * that had none, so that a good network costs little and a bad one is heard once.
 */
export class StartThreshold {
  constructor(sampleRate) {
    const samples = (ms) => Math.round((ms * sampleRate) / 1000);
    this.least = samples(THRESHOLD_MS.least);
    this.most = samples(THRESHOLD_MS.most);
    this.samples = samples(THRESHOLD_MS.first);
  }

  raise() {
    this.samples = Math.min(this.most, Math.round(this.samples * RAISE));
  }

  lower() {
    this.samples = Math.max(this.least, Math.round(this.samples * LOWER));
  }
}

/** First in, first out, in one piece of memory that doubles when needed, up to a bound. */
export class SampleRing {
  constructor({ capacity, most }) {
    this._data = new Float32Array(capacity);
    this._most = most;
    this._start = 0;
    this.length = 0;
  }

  /** False, and nothing taken, if it would hold more than it may. */
  push(samples) {
    if (!this._makeRoom(this.length + samples.length)) return false;
    const stop = (this._start + this.length) % this._data.length;
    const first = Math.min(samples.length, this._data.length - stop);
    this._data.set(samples.subarray(0, first), stop);
    this._data.set(samples.subarray(first), 0);
    this.length += samples.length;
    return true;
  }

  at(index) {
    return this._data[(this._start + index) % this._data.length];
  }

  drop(count) {
    this._start = (this._start + count) % this._data.length;
    this.length -= count;
  }

  _makeRoom(wanted) {
    if (wanted > this._most) return false;
    if (wanted <= this._data.length) return true;
    let capacity = this._data.length;
    while (capacity < wanted) capacity *= 2;
    const larger = new Float32Array(capacity);
    const first = this._data.subarray(this._start, this._start + this.length);
    larger.set(first);
    larger.set(this._data.subarray(0, this.length - first.length), first.length);
    this._data = larger;
    this._start = 0;
    return true;
  }
}

/**
 * One utterance on its way to the loudspeaker.
 *
 * `onEvent(name, detail)` tells `start`, `sound` (the first sample that can be heard), `underrun` (dry
 * in the middle of sound; it was faded out), `pause` (dry in silence: nobody heard it), `resume`,
 * `end`, `stopped`, `overflow`. `detail.position` is in the utterance, `detail.offset` in the block
 * being rendered.
 */
export class PlaybackBuffer {
  constructor({ sampleRate, threshold, onEvent }) {
    this._ring = new SampleRing({
      capacity: FIRST_CAPACITY_S * sampleRate,
      most: LARGEST_CAPACITY_S * sampleRate,
    });
    this._fade = Math.round((FADE_MS * sampleRate) / 1000);
    this._pause = Math.round((PAUSE_MS * sampleRate) / 1000);
    this._threshold = threshold;
    this._onEvent = onEvent;
    this._state = "filling";
    this._gain = 1;
    this._waited = 0;
    this._gap = 0;
    this._hasStarted = false;
    this._hasSounded = false;
    this._hasRunDry = false;
    this._isEnded = false;
    this._isStopping = false;
    /** Samples of the utterance that were played. */
    this.position = 0;
  }

  get buffered() {
    return this._ring.length;
  }

  get isPlaying() {
    return this._state === "playing";
  }

  /** Nothing will ever come out again. */
  get isOver() {
    return this._state === "over";
  }

  push(samples) {
    if (this.isOver || this._isStopping) return;
    if (!this._ring.push(samples)) {
      this._tell("overflow", 0);
      this.stop();
    }
  }

  /** No more samples follow: play what is here to its very end. */
  end() {
    this._isEnded = true;
  }

  /** Silence after a ramp of 5 ms, whatever is here. */
  stop() {
    if (this.isOver) return;
    this._isStopping = true;
    if (!this.isPlaying) this._finish("stopped", 0);
  }

  /** Add the next samples to `output`. */
  render(output) {
    if (this._state === "filling" && !this._tryToStart(output.length)) return;
    if (this._state !== "playing") return;
    const isFading = this._isStopping || this._isAboutToClick(output.length);
    const step = (isFading ? -1 : 1) / this._fade;
    const count = Math.min(output.length, this._ring.length);
    let offset = 0;
    while (offset < count) {
      const sample = this._ring.at(offset);
      output[offset] += sample * this._gain;
      if (!this._hasSounded && Math.abs(sample) > AUDIBLE) this._noteSound(offset);
      offset += 1;
      this._gain = Math.min(1, this._gain + step);
      if (this._gain <= 0) break;
    }
    this._ring.drop(offset);
    this.position += offset;
    if (this._gain <= 0) this._fallSilent(offset);
    else if (this._ring.length === 0) this._runOut(offset);
  }

  _tryToStart(blockLength) {
    const held = this._ring.length;
    if (held > 0) this._waited += blockLength;
    const needed = blockLength + this._fade;
    const isEnough =
      held >= Math.max(this._threshold.samples, needed) ||
      (held >= needed && this._waited >= this._threshold.samples);
    if (!isEnough && !this._isEnded) {
      if (this._hasStarted) this._gap += blockLength;
      return false;
    }
    if (held === 0) {
      this._finish("end", 0);
      return false;
    }
    this._state = "playing";
    this._tell(this._hasStarted ? "resume" : "start", 0, { gap: this._gap });
    this._hasStarted = true;
    this._gap = 0;
    this._waited = 0;
    return true;
  }

  /** Whether this block and a fade would use up all there is, in the middle of sound. */
  _isAboutToClick(blockLength) {
    const held = this._ring.length;
    if (this._isEnded || held >= blockLength + this._fade) return false;
    for (let index = Math.max(0, held - this._pause); index < held; index += 1) {
      if (Math.abs(this._ring.at(index)) > AUDIBLE) return true;
    }
    return false;
  }

  _noteSound(offset) {
    this._hasSounded = true;
    this._onEvent("sound", { position: this.position + offset, offset });
  }

  /** The gain reached zero: the stop that was asked for, or an underrun. */
  _fallSilent(offset) {
    this._gain = 0;
    if (this._isStopping) {
      this._finish("stopped", offset);
      return;
    }
    this._state = "filling";
    this._hasRunDry = true;
    this._threshold.raise();
    this._tell("underrun", offset);
  }

  /** The last sample was played at full gain: the end, or a pause in which nothing is lost. */
  _runOut(offset) {
    if (this._isStopping) this._finish("stopped", offset);
    else if (this._isEnded) this._finish("end", offset);
    else {
      this._state = "filling";
      this._tell("pause", offset);
    }
  }

  _finish(name, offset) {
    this._state = "over";
    this._ring.drop(this._ring.length);
    if (name === "end" && this._hasStarted && !this._hasRunDry) this._threshold.lower();
    this._tell(name, offset);
  }

  _tell(name, offset, more = {}) {
    this._onEvent(name, { position: this.position, offset, ...more });
  }
}
