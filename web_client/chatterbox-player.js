/**
 * Text in, live speech out of the loudspeaker: the module that another page imports.
 *
 *     import { connect } from "https://tts.example/chatterbox-player.js";
 *     const player = await connect();
 *     button.onclick = () => player.speak("Hello there.");
 *     escape.onclick = () => player.cancel();
 *
 * docs/browser.md lists the options and events.
 */

import { Connection } from "./connection.js";
import { DECODED_RATE, whyNoOpus } from "./decoder.js";
import { Sound, whyNoSound } from "./sound.js";
import { Utterance } from "./utterance.js";

export { Utterance };

/** Events of an utterance that its player repeats. */
const REPEATED = [
  "text",
  "opened",
  "packet",
  "segment",
  "words",
  "warning",
  "refused",
  "start",
  "sound",
  "underrun",
  "pause",
  "resume",
  "level",
  "received",
  "close",
];

/** This browser, or this page's address, cannot play: `code` is "insecure" or "no_audio_worklet". */
export class CannotPlay extends Error {
  name = "CannotPlay";

  constructor(code) {
    super(`this page cannot play live sound: ${code}`);
    this.code = code;
  }
}

/** A player whose daemon has said what it offers. Rejects with `CannotPlay`. */
export async function connect(options = {}) {
  const player = new Player(options);
  await player.ready;
  return player;
}

/**
 * Events: `state` (see web_client/connection.js), `begin` (what the daemon offers), `utterance` (a new
 * one), `format` (how audio comes, and why), `voice` (for web_client/own-voices.js), and those of every
 * utterance.
 */
export class Player extends EventTarget {
  /**
   * `url` of the daemon, its own host by default; `token`, or `getTicket` (see web_client/connection.js);
   * `format`: "auto", "opus" or "pcm_s16le"; `settings` for every utterance: voice, seed, language, options, bitrate, max_buffer_delay_ms,
   * max_lead_ms, lexicon.
   */
  constructor({ url, token, getTicket, format = "auto", settings = {} } = {}) {
    super();
    this.settings = settings;
    /** The daemon's `begin`, null before. */
    this.offer = null;
    this.current = null;
    /** "opus" or "pcm_s16le", and why not Opus (null if it is, or if PCM was asked for). */
    this.format = null;
    this.whyNotOpus = null;
    this._asked = format;
    this._opusFailure = null;
    this._sound = null;
    this._utterances = new Map();
    this._numUtterances = 0;
    this.ready = this._start(url ?? defaultUrl(), { token, getTicket });
  }

  get isReady() {
    return this.connection?.isReady === true && this._sound !== null;
  }

  /** The AudioNode that everything passes; a new one after the format changed. */
  get output() {
    return this._sound?.output ?? null;
  }

  get isHeldBack() {
    return this._sound !== null && !this._sound.isRunning;
  }

  /**
   * Say something, and cut off what is being said. `text` is a string, an iterable or async iterable
   * of strings (a language model's answer), or left out: then write to the utterance, and end it.
   * Call it from a click or a key press at least once: browsers hold sound back until then.
   */
  speak(text, settings = {}) {
    if (!this.isReady) throw new Error("the daemon is not connected");
    this.resume();
    this.cancel();
    this._numUtterances += 1;
    const utterance = new Utterance({
      name: `u${this._numUtterances}`,
      format: this.format,
      connection: this.connection,
      sound: this._sound,
      settings: { ...this.settings, ...settings },
    });
    this._adopt(utterance);
    if (typeof text === "string") {
      utterance.write(text);
      utterance.end();
    } else if (text !== undefined) {
      this._pump(text, utterance);
    }
    return utterance;
  }

  /** Silence at once. */
  cancel() {
    return this.current?.cancel();
  }

  /** Let sound out: from a click or a key press. */
  resume() {
    return this._sound?.resume();
  }

  /** "auto", "opus" or "pcm_s16le" for the next utterance; what is being said is cut off. */
  async setFormat(asked) {
    this._asked = asked;
    await this._prepareSound();
  }

  setToken(token) {
    this.connection.token = token;
    this.connection.retry();
  }

  async close() {
    this.cancel();
    this.connection.close();
    await this._sound?.close();
  }

  // --- inside -----------------------------------------------------------------------------------

  async _start(url, access) {
    const why = whyNoSound();
    if (why) throw new CannotPlay(why);
    this.connection = new Connection(url, access);
    this.connection.addEventListener("message", ({ detail }) => this._take(detail));
    this.connection.addEventListener("audio", ({ detail }) => this._takeAudio(detail));
    this.connection.addEventListener("state", ({ detail }) => this._noteState(detail));
    const isConnected = new Promise((resolve) => {
      this.addEventListener("begin", resolve, { once: true });
    });
    this.connection.retry();
    await Promise.all([isConnected, this._prepareSound()]);
    this._tell("state", { state: this.connection.state });
  }

  async _prepareSound() {
    const reason = this._opusFailure ?? (await whyNoOpus());
    const isOpus = this._asked === "opus" || (this._asked === "auto" && reason === null);
    const format = isOpus ? "opus" : "pcm_s16le";
    if (format !== this.format) {
      this.cancel();
      const former = this._sound;
      const sound = await Sound.create(DECODED_RATE[format]);
      sound.context.addEventListener("statechange", () => this._tell("held", {}));
      this._sound = sound;
      this.format = format;
      if (former?.isRunning) await sound.resume();
      await former?.close();
    }
    this.whyNotOpus = !isOpus && this._asked === "auto" ? reason : null;
    this._tell("format", { format, whyNotOpus: this.whyNotOpus });
  }

  _adopt(utterance) {
    this.current = utterance;
    this._utterances.set(utterance.name, utterance);
    this._tell("utterance", { utterance });
    for (const type of REPEATED) {
      utterance.addEventListener(type, ({ detail }) => this._tell(type, detail));
    }
    utterance.addEventListener("close", ({ detail }) => this._noteClose(utterance, detail));
  }

  _noteClose(utterance, { code, message }) {
    this._utterances.delete(utterance.name);
    if (this.current === utterance) this.current = null;
    if (code === "undecodable" && utterance.format === "opus" && this._asked === "auto") {
      this._opusFailure = message;
      this._prepareSound();
    }
  }

  async _pump(pieces, utterance) {
    try {
      for await (const piece of pieces) {
        if (utterance.isOver) return;
        utterance.write(piece);
      }
    } finally {
      utterance.end();
    }
  }

  _take(message) {
    if (message.type === "begin") {
      this.offer = message;
      this._tell("begin", message);
    } else if (message.context !== undefined) {
      this._utterances.get(message.context)?.take(message);
    } else if (message.type.startsWith("voice") || message.upload !== undefined) {
      this._tell("voice", message);
    } else {
      this._tell("complaint", message);
    }
  }

  _takeAudio(packet) {
    for (const utterance of this._utterances.values()) {
      if (utterance.number === packet.number) utterance.takeAudio(packet);
    }
  }

  _noteState(detail) {
    if (detail.state === "waiting" || detail.state === "closed") {
      for (const utterance of [...this._utterances.values()]) utterance.lose();
    }
    this._tell("state", detail);
  }

  _tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The daemon that this module was loaded from. */
function defaultUrl() {
  const url = new URL("./", import.meta.url);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}
