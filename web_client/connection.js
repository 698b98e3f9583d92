/**
 * A URL in; messages of the daemon out, over a WebSocket that comes back by itself.
 *
 * Events: `state` with {state: "connecting" | "ready" | "waiting" | "closed", reason, retryAtMs};
 * `message` with a parsed control message; `audio` with a parsed audio message. Reasons of waiting:
 * `full`, `draining` (the daemon shuts down), `token` (it wants another one; it is not tried again
 * before `retry`), `lost`.
 */

import { PROTOCOL, parseAudioMessage, parseServerMessage, toJson } from "./protocol.js";

const FIRST_BACKOFF_MS = 500;
const LONGEST_BACKOFF_MS = 8000;
const ASK_TIMEOUT_MS = 3000;
const HTTP_UNAUTHORIZED = [401, 403];

export class Connection extends EventTarget {
  constructor(url, { token } = {}) {
    super();
    this._url = new URL(url);
    this.token = token;
    this._socket = null;
    this._timer = null;
    this._backoffMs = FIRST_BACKOFF_MS;
    this._isClosed = false;
    this.state = "connecting";
    this._onOnline = () => this.state === "waiting" && this.retry();
    globalThis.addEventListener?.("online", this._onOnline);
  }

  get isReady() {
    return this.state === "ready";
  }

  /** Connect now; also before a wait is over. */
  retry() {
    clearTimeout(this._timer);
    if (this._isClosed || this._socket) return;
    this._setState("connecting");
    this._open();
  }

  send(type, fields) {
    if (!this.isReady) return;
    this._socket.send(toJson(type, fields));
  }

  close() {
    this._isClosed = true;
    clearTimeout(this._timer);
    globalThis.removeEventListener?.("online", this._onOnline);
    this._socket?.close(1000);
    this._setState("closed");
  }

  _open() {
    const socket = new WebSocket(this._url, PROTOCOL);
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    socket.onmessage = ({ data }) => this._take(data);
    socket.onclose = ({ code }) => this._noteClosed(code);
  }

  _take(data) {
    if (typeof data !== "string") {
      this._tell("audio", parseAudioMessage(data));
      return;
    }
    const message = parseServerMessage(data);
    if (message === null) return;
    if (message.type === "begin") {
      this._backoffMs = FIRST_BACKOFF_MS;
      this._tell("message", message);
      this._setState("ready");
      return;
    }
    this._tell("message", message);
  }

  async _noteClosed(code) {
    this._socket = null;
    if (this._isClosed) return;
    // At once, so that nobody sends into a socket that is gone; the reason follows.
    this._setState("waiting", { reason: "lost", code });
    const { reason, waitMs } = await this._askWhy();
    if (this._isClosed || this._socket) return;
    if (reason === "token") {
      this._setState("waiting", { reason, code });
      return;
    }
    this._setState("waiting", { reason, code, retryAtMs: performance.now() + waitMs });
    this._timer = setTimeout(() => this.retry(), waitMs);
  }

  /** A browser does not tell why a WebSocket was refused; a plain request does. */
  async _askWhy() {
    const url = new URL("readyz", this._url);
    url.protocol = url.protocol === "wss:" ? "https:" : "http:";
    try {
      const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
      const answer = await fetch(url, { cache: "no-store", signal });
      if (HTTP_UNAUTHORIZED.includes(answer.status)) return { reason: "token" };
      if (answer.status === 503) {
        const reason = (await answer.text()).startsWith("full") ? "full" : "draining";
        const seconds = Number(answer.headers.get("Retry-After")) || 1;
        return { reason, waitMs: seconds * 1000 + Math.random() * 500 };
      }
    } catch (error) {
      // Nobody is there, or another origin may not ask: both mean to try again later.
      this._tell("unanswered", { error });
    }
    const waitMs = this._backoffMs * (0.8 + 0.4 * Math.random());
    this._backoffMs = Math.min(LONGEST_BACKOFF_MS, this._backoffMs * 2);
    return { reason: "lost", waitMs };
  }

  _setState(state, detail = {}) {
    this.state = state;
    this._tell("state", { state, ...detail });
  }

  _tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
