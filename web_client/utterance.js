/**
 * One thing to be spoken: text in as it is written, sound out, and everything that happened to it.
 *
 * Made by `Player.speak`. Events, each with `detail.utterance` and `detail.atMs`: `text` (chars), `opened`,
 * `packet` (ms, peak), `segment`, `words`, `warning`, `refused` (a message had no effect), `start`, `sound` (the
 * first sample that can be heard), `underrun`, `pause`, `resume`, `level`, `received` (all audio is
 * here), `close` (what `done` resolves to).
 */

import { DECODED_RATE, newDecoder } from "./decoder.js";

/** Code points in one text message; even escaped it stays below the daemon's message limit. */
const LONGEST_WRITE = 8000;

export class Utterance extends EventTarget {
  constructor({ name, format, connection, sound, settings }) {
    super();
    this.name = name;
    this.format = format;
    this.number = null;
    this.opened = null;
    this.segments = [];
    /** All text that was written. */
    this.text = "";
    this.isEnded = false;
    this.isOver = false;
    /** First times of `text`, `packet`, `sound`, `received`, `close`, in ms of performance.now(). */
    this.marks = {};
    this.receivedMs = 0;
    this.numUnderruns = 0;
    this._connection = connection;
    this._nextSequence = 0;
    this._isCancelling = false;
    this._isReceived = false;
    this._isOrphan = false;
    this._stream = sound.newStream((type, detail) => this._noteSound(type, detail));
    this._decoder = newDecoder(format, {
      onSamples: (samples) => this._play(samples),
      onError: (error) => this._fail("undecodable", error.message),
    });
    /** Resolves, never rejects, to {reason: "ended" | "cancelled" | "lost" | "failed", …}. */
    this.done = new Promise((resolve) => {
      this._resolve = resolve;
    });
    connection.send("open", { context: name, format, ...settings });
  }

  /** How much of it the listener has heard, in ms of its audio. */
  get heardMs() {
    return this._stream.heardMs;
  }

  /** More text, exactly as it should be joined. */
  write(text) {
    if (this.isOver || this.isEnded || !text) return;
    const points = Array.from(text.toWellFormed?.() ?? text);
    for (let start = 0; start < points.length; start += LONGEST_WRITE) {
      const part = points.slice(start, start + LONGEST_WRITE).join("");
      this._connection.send("text", { context: this.name, text: part });
    }
    this.text += points.join("");
    this._tell("text", { chars: points.length });
  }

  /** Speak what was written so far, even a half sentence. */
  flush() {
    if (!this.isOver && !this.isEnded) this._connection.send("flush", { context: this.name });
  }

  /** No more text follows. */
  end() {
    if (this.isOver || this.isEnded) return;
    this.isEnded = true;
    this._connection.send("end", { context: this.name });
  }

  /** Silence at once; the daemon is told what was heard. */
  async cancel() {
    if (this.isOver || this._isCancelling) return this.done;
    this._isCancelling = true;
    this._decoder.close();
    await this._stream.stop();
    if (this.isOver) return this.done;
    const playedMs = this.heardMs;
    if (this._isOrphan) this._close({ reason: "cancelled", playedMs });
    else this._connection.send("cancel", { context: this.name, played_ms: playedMs });
    return this.done;
  }

  // --- from the daemon, by way of the player -----------------------------------------------------

  take(message) {
    switch (message.type) {
      case "opened":
        this.opened = message;
        this.number = message.number;
        this._tell("opened", message);
        break;
      case "segment":
        this.segments.push(message);
        this._tell("segment", message);
        break;
      case "audio_end":
        this._noteReceived(message);
        break;
      case "cancelled":
        this._close({
          reason: "cancelled",
          textSpoken: message.text_spoken,
          textRemaining: message.text_remaining,
          playedMs: message.played_ms,
        });
        break;
      case "error":
        if (message.final || !this.opened) this._fail(message.code, message.message, message.hint);
        else this._tell("refused", message);
        break;
      default:
        this._tell(message.type, message);
    }
  }

  takeAudio(packet) {
    if (this.isOver || this._isCancelling) return;
    if (packet.sequence !== this._nextSequence) {
      this._fail("bad_sequence", `packet ${packet.sequence} came for ${this._nextSequence}`);
      return;
    }
    this._nextSequence += 1;
    this._decoder.push(packet);
  }

  /** The connection is gone: nothing of it may be heard later. */
  lose() {
    this._isOrphan = true;
    this.number = null; // the next session counts anew
    if (this._isReceived && !this._isCancelling) return; // all of it is here: let it be heard
    this._silence();
    this._close({ reason: "lost" });
  }

  // --- sound ----------------------------------------------------------------------------------------

  _play(samples) {
    let peak = 0;
    for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    const ms = (samples.length * 1000) / DECODED_RATE[this.format];
    this.receivedMs += ms;
    this._stream.push(samples);
    this._tell("packet", { ms, peak });
  }

  async _noteReceived(message) {
    this._isReceived = true;
    await this._decoder.finish();
    if (this.isOver || this._isCancelling) return;
    this._tell("received", message);
    this._stream.end();
  }

  _noteSound(type, detail) {
    if (this.isOver) return;
    if (type === "underrun") this.numUnderruns += 1;
    if (type === "overflow") this._fail("overflow", "the sound was held back for too long");
    else if (type === "end") {
      this._close({ reason: "ended", atMs: detail.atMs, playedMs: detail.positionMs });
    } else if (type !== "stopped") this._tell(type, detail);
  }

  _silence() {
    this._decoder.close();
    this._stream.stop();
  }

  // --- ends -------------------------------------------------------------------------------------

  _fail(code, message, hint = "") {
    if (this.isOver) return;
    this._silence();
    this._close({ reason: "failed", code, message, hint });
  }

  _close(result) {
    if (this.isOver) return;
    this.isOver = true;
    this._decoder.close();
    this._tell("close", result);
    this._resolve(result);
  }

  _tell(type, detail) {
    const told = { utterance: this, atMs: performance.now(), ...detail };
    this.marks[type] ??= told.atMs;
    this.dispatchEvent(new CustomEvent(type, { detail: told }));
  }
}
