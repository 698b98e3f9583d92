/**
 * Decoded samples of utterances in, sound out through one AudioContext and one AudioWorklet.
 *
 * Knows no protocol. Times it tells are those of `performance.now()`, at the loudspeaker.
 */

/** Longer than any block of an audio device: then the context does not run, and is silent anyway. */
const STOP_TIMEOUT_MS = 150;
const LOADING_ATTEMPTS = 3;

/** Null, or the code of what this browser or this page's address lacks. */
export function whyNoSound() {
  if (!globalThis.isSecureContext) return "insecure";
  if (typeof AudioContext === "undefined" || typeof AudioWorkletNode === "undefined") {
    return "no_audio_worklet";
  }
  return null;
}

export class Sound {
  /** Silent, and suspended where the browser wants a gesture first: call `resume` from one. */
  static async create(sampleRate) {
    const context = new AudioContext({ sampleRate, latencyHint: "interactive" });
    for (let attempt = 1; ; attempt += 1) {
      try {
        await context.audioWorklet.addModule(new URL("./player-worklet.js", import.meta.url));
        return new Sound(context);
      } catch (error) {
        // One lost request must not leave a page mute for good.
        if (attempt === LOADING_ATTEMPTS) throw error;
      }
    }
  }

  constructor(context) {
    this.context = context;
    this.rate = context.sampleRate;
    this._streams = new Map();
    this._numStreams = 0;
    /** Everything that is played passes here: connect an analyser, a recorder, a volume control. */
    this.output = new AudioWorkletNode(context, "chatterbox-playback", {
      numberOfInputs: 0,
      numberOfOutputs: 1,
      outputChannelCount: [1],
    });
    this.output.connect(context.destination);
    this.output.port.onmessage = ({ data }) => this._streams.get(data.stream)?._take(data);
  }

  get isRunning() {
    return this.context.state === "running";
  }

  async resume() {
    if (!this.isRunning) await this.context.resume();
  }

  /** `onEvent(name, detail)`: see `SoundStream`. */
  newStream(onEvent) {
    this._numStreams += 1;
    const stream = new SoundStream(this, this._numStreams, onEvent);
    this._streams.set(stream.number, stream);
    return stream;
  }

  async close() {
    this.output.disconnect();
    await this.context.close();
  }

  _forget(stream) {
    this._streams.delete(stream.number);
  }

  /** When a frame leaves the loudspeaker. */
  _heardAtMs(frame) {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    if (!performanceTime) return performance.now();
    return performanceTime + (frame / this.rate - contextTime) * 1000;
  }
}

/**
 * The samples of one utterance. Events: those of web_client/ring-buffer.js, with `atMs`, `positionMs`,
 * `gapMs`, `thresholdMs`; and `level` with `bufferedMs`, too.
 */
class SoundStream {
  constructor(sound, number, onEvent) {
    this._sound = sound;
    this._onEvent = onEvent;
    this._onOver = [];
    this.number = number;
    this.isOver = false;
    /** How much was given to the audio device. */
    this.positionMs = 0;
    this._post("begin");
  }

  /** How much has left the loudspeaker. */
  get heardMs() {
    return Math.max(0, this.positionMs - (this._sound.context.outputLatency || 0) * 1000);
  }

  push(samples) {
    this._post("samples", { samples }, [samples.buffer]);
  }

  end() {
    this._post("end");
  }

  /** Silence within 5 ms of the next block. Resolves when nothing comes out any more. */
  stop() {
    if (this.isOver) return Promise.resolve();
    this._post("stop");
    return new Promise((resolve) => {
      const timer = setTimeout(() => this._finish(), STOP_TIMEOUT_MS);
      this._onOver.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  _post(type, more = {}, transfer = []) {
    if (this.isOver) return;
    this._sound.output.port.postMessage({ type, stream: this.number, ...more }, transfer);
  }

  _take({ type, position, buffered = 0, gap = 0, threshold, frame }) {
    const ms = (samples) => (samples * 1000) / this._sound.rate;
    this.positionMs = ms(position);
    this._onEvent(type, {
      atMs: this._sound._heardAtMs(frame),
      positionMs: this.positionMs,
      bufferedMs: ms(buffered),
      gapMs: ms(gap),
      thresholdMs: ms(threshold),
    });
    if (type === "end" || type === "stopped") this._finish();
  }

  _finish() {
    if (this.isOver) return;
    this.isOver = true;
    this._sound._forget(this);
    for (const tell of this._onOver) tell();
  }
}
