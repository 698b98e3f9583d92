/**
 * A clip in, a voice of one's own out, over a `Connection`: section 6 of docs/protocol.md.
 *
 * Events: `voices` with the list, whenever it may have changed. For the page, and for pages of others:
 *
 *     const own = new OwnVoices(player);
 *     const { voice } = await own.clone(file, { name: "Anna", consent: true });
 *     player.speak("Hello.", { voice });
 */

const BUFFERED_BYTES = 65_536;
const LOOK_EVERY_MS = 15;

/** The daemon did not make a voice: `code` and `hint` as in an `error` message. */
export class NoVoice extends Error {
  name = "NoVoice";

  constructor({ code, message, hint = "" }) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

const LOST = { code: "lost", message: "the connection broke", hint: "Try again." };
const OF_A_DELETION = ["unknown_voice", "cloning_failed"];
const UNREADABLE = { code: "unreadable", message: "the file cannot be read", hint: "Choose it again." };

export class OwnVoices extends EventTarget {
  constructor(player) {
    super();
    /** [{voice, name, seconds, expires_in_s}], oldest first. */
    this.voices = [];
    this._player = player;
    this._uploads = new Map();
    this._numUploads = 0;
    player.addEventListener("voice", ({ detail }) => this._take(detail));
    player.addEventListener("complaint", ({ detail }) => {
      if (OF_A_DELETION.includes(detail.code)) this._askForAll();
    });
    player.addEventListener("state", () => this._noteState());
    this._noteState();
  }

  /** What the daemon offers, or null if this page may not upload. */
  get terms() {
    return this._player.offer?.cloning ?? null;
  }

  /**
   * `clip` is a Blob; `onProgress` is told (state, share) with state "sending", "waiting" or "making".
   * Resolves to `voice_ready`; rejects with `NoVoice`.
   */
  async clone(clip, { name, consent, onProgress = () => {} }) {
    const sent = clip.size > this.terms?.clip_bytes ? clip : await inMemory(clip);
    const upload = `u${++this._numUploads}`;
    const answers = new Answers();
    this._uploads.set(upload, answers);
    try {
      this._connection.send("voice_upload", { upload, name, bytes: clip.size, consent });
      await answers.next("voice_accepted");
      await this._sendBytes(sent, { answers, onProgress });
      for (;;) {
        const answer = await answers.next("voice_progress", "voice_ready");
        if (answer.type === "voice_ready") return answer;
        onProgress(answer.state, answer.ahead);
      }
    } finally {
      this._uploads.delete(upload);
    }
  }

  delete(voice) {
    this._connection.send("voice_delete", { voice });
  }

  get _connection() {
    return this._player.connection;
  }

  /** Piece by piece: a word that is typed meanwhile must not wait behind megabytes. */
  async _sendBytes(clip, { answers, onProgress }) {
    const { message_bytes: longest } = this._player.offer.limits;
    for (let start = 0; start < clip.size; start += longest) {
      const piece = await clip.slice(start, start + longest).arrayBuffer();
      while (this._connection.bufferedBytes > BUFFERED_BYTES) await wait(LOOK_EVERY_MS);
      if (answers.isRefused) return;
      this._connection.sendBytes(piece);
      onProgress("sending", Math.min(1, (start + piece.byteLength) / clip.size));
    }
  }

  _noteState() {
    if (!this._connection?.isReady) this._lose();
    else if (this.terms) this._askForAll();
    else this._show([]);
  }

  _take(message) {
    if (message.type === "voices") this._show(message.voices);
    else this._uploads.get(message.upload)?.take(message);
    if (["voice_ready", "voice_deleted"].includes(message.type)) this._askForAll();
  }

  _askForAll() {
    this._connection.send("voice_list", {});
  }

  _lose() {
    for (const answers of this._uploads.values()) answers.take({ type: "error", ...LOST });
  }

  _show(voices) {
    this.voices = voices;
    this.dispatchEvent(new CustomEvent("voices", { detail: { voices } }));
  }
}

/** What the daemon says to one upload, to be waited for in order. */
class Answers {
  constructor() {
    this._messages = [];
    this._wake = () => {};
  }

  get isRefused() {
    return this._messages.some(({ type }) => type === "error");
  }

  take(message) {
    this._messages.push(message);
    this._wake();
  }

  async next(...types) {
    for (;;) {
      const message = this._messages.shift();
      if (message === undefined) {
        await new Promise((resolve) => {
          this._wake = resolve;
        });
      } else if (message.type === "error") {
        throw new NoVoice(message);
      } else if (types.includes(message.type)) {
        return message;
      }
    }
  }
}

/** Whatever happens to the file, half an upload would keep the next one waiting. */
async function inMemory(clip) {
  try {
    return new Blob([await clip.arrayBuffer()]);
  } catch {
    throw new NoVoice(UNREADABLE);
  }
}

function wait(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
