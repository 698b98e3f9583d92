/**
 * Runs in the audio thread: messages of web_client/sound.js in, sound out, and what happened to it.
 *
 * In: {type: "begin" | "samples" | "end" | "stop", stream, samples?}. Out: the events of
 * `PlaybackBuffer` with the frame of the context in which they happened, and `level` some 25 times a
 * second while something plays.
 */

import { PlaybackBuffer, StartThreshold } from "./ring-buffer.js";

const LEVEL_S = 0.04;

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this._threshold = new StartThreshold(sampleRate);
    this._streams = new Map();
    this._untilLevel = 0;
    this.port.onmessage = ({ data }) => this._take(data);
  }

  _take({ type, stream, samples }) {
    if (type === "begin") {
      const onEvent = (name, detail) => this._tell(name, stream, detail);
      this._streams.set(
        stream,
        new PlaybackBuffer({ sampleRate, threshold: this._threshold, onEvent }),
      );
      return;
    }
    const buffer = this._streams.get(stream);
    if (!buffer) return; // it was stopped while this message was on its way
    if (type === "samples") buffer.push(samples);
    else if (type === "end") buffer.end();
    else buffer.stop();
    if (buffer.isOver) this._streams.delete(stream);
  }

  _tell(type, stream, { position, offset, gap = 0 }) {
    const threshold = this._threshold.samples;
    this.port.postMessage({ type, stream, position, gap, threshold, frame: currentFrame + offset });
  }

  process(_inputs, [[output]]) {
    for (const [stream, buffer] of this._streams) {
      buffer.render(output);
      if (buffer.isOver) this._streams.delete(stream);
    }
    this._untilLevel -= output.length;
    if (this._untilLevel <= 0 && this._streams.size) {
      this._untilLevel = LEVEL_S * sampleRate;
      for (const [stream, { position, buffered }] of this._streams) {
        const threshold = this._threshold.samples;
        this.port.postMessage({
          type: "level",
          stream,
          position,
          buffered,
          threshold,
          frame: currentFrame + output.length,
        });
      }
    }
    return true;
  }
}

registerProcessor("chatterbox-playback", Playback);
