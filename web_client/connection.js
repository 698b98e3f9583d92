/**
 * A URL in; messages of the daemon out, over a WebSocket that comes back by itself.
 *
 * Events: `state` with {state: "connecting" | "ready" | "waiting" | "closed", reason, retryAtMs};
 * `message` with a parsed control message; `audio` with a parsed audio message. Reasons of waiting:
 * `full`, `draining` (the daemon shuts down), `rate` (too many requests), `token` (it wants one, or another
 * one; nothing is tried before `retry`), `refused` (it is there, but this page is not welcome), `lost`.
 */

import { PROTOCOL, parseAudioMessage, parseServerMessage, toJson } from "./protocol.js";

const TICKET_SUBPROTOCOL = "chatterboxd.ticket.";
const FIRST_BACKOFF_MS = 500;
const LONGEST_BACKOFF_MS = 8000;
const ASK_TIMEOUT_MS = 3000;

/** Why the daemon does not let us in: a reason for the page, and how long to wait (null: for ever). */
class Refused extends Error {
  constructor(reason, waitMs) {
    super(reason);
    this.reason = reason;
    this.waitMs = waitMs;
  }
}

export class Connection extends EventTarget {
  /** `token` of this daemon, if it wants one; or `getTicket`, which gives a ticket for one connection. */
  constructor(url, { token, getTicket } = {}) {
    super();
    this._url = new URL(url);
    this._getTicket = getTicket;
    this.token = token;
    this._socket = null;
    this._timer = null;
    this._backoffMs = FIRST_BACKOFF_MS;
    this._isClosed = false;
    this._isTrying = false;
    this.state = "connecting";
    this._onOnline = () => this.retry();
    globalThis.addEventListener?.("online", this._onOnline);
  }

  get isReady() {
    return this.state === "ready";
  }

  /** Connect now; also before a wait is over. */
  async retry() {
    if (this._isClosed || this._socket || this._isTrying) return;
    clearTimeout(this._timer);
    this._isTrying = true;
    this._setState("connecting");
    try {
      const ticket = await this._ticket();
      if (!this._isClosed) this._open(ticket);
    } catch (error) {
      this._wait(this._refusalIn(error));
    } finally {
      this._isTrying = false;
    }
  }

  send(type, fields) {
    if (!this.isReady) return;
    this._socket.send(toJson(type, fields));
  }

  /** An ArrayBuffer, of an upload that was accepted. */
  sendBytes(buffer) {
    if (this.isReady) this._socket.send(buffer);
  }

  /** What the browser has not sent yet. */
  get bufferedBytes() {
    return this._socket?.bufferedAmount ?? 0;
  }

  close() {
    this._isClosed = true;
    clearTimeout(this._timer);
    globalThis.removeEventListener?.("online", this._onOnline);
    this._socket?.close(1000);
    this._setState("closed");
  }

  // --- coming in ----------------------------------------------------------------------------------

  /** A WebSocket of a browser can send no token, so a plain request fetches a ticket for it. */
  async _ticket() {
    if (this._getTicket) return this._getTicket();
    if (!this.token) return null;
    return this._ask("ticket");
  }

  _open(ticket) {
    const offered = ticket ? [PROTOCOL, TICKET_SUBPROTOCOL + ticket] : [PROTOCOL];
    const socket = new WebSocket(this._url, offered);
    let wasOpen = false;
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    socket.onopen = () => {
      wasOpen = true;
    };
    socket.onmessage = ({ data }) => this._take(data);
    socket.onclose = ({ code }) => this._noteClosed(code, { wasOpen });
  }

  _take(data) {
    if (typeof data !== "string") {
      this._tell("audio", parseAudioMessage(data));
      return;
    }
    const message = parseServerMessage(data);
    if (message === null) return;
    this._tell("message", message);
    if (message.type === "begin") {
      this._backoffMs = FIRST_BACKOFF_MS;
      this._setState("ready");
    }
  }

  // --- waiting ------------------------------------------------------------------------------------

  async _noteClosed(code, { wasOpen }) {
    this._socket = null;
    if (this._isClosed) return;
    // At once, so that nobody sends into a socket that is gone; the reason follows.
    this._setState("waiting", { reason: "lost", code });
    try {
      await this._ask("readyz");
      await this._ask("ticket");
      this._wait(new Refused(wasOpen ? "lost" : "refused"), code);
    } catch (error) {
      this._wait(this._refusalIn(error), code);
    }
  }

  /** A browser does not tell why a WebSocket was refused; a plain request does. */
  async _ask(path) {
    const url = new URL(path, this._url);
    url.protocol = url.protocol === "wss:" ? "https:" : "http:";
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const answer = await fetch(url, { cache: "no-store", headers, signal });
    const waitMs = (Number(answer.headers.get("Retry-After")) || 1) * 1000 + Math.random() * 500;
    if (answer.status === 401) throw new Refused("token", null);
    if (answer.status === 429) throw new Refused("rate", waitMs);
    if (answer.status === 503) {
      const isFull = (await answer.text()).startsWith("full");
      throw new Refused(isFull ? "full" : "draining", waitMs);
    }
    return path === "ticket" && answer.ok ? (await answer.json()).ticket : null;
  }

  /** Anything but a refusal means that nobody is there, or that another origin may not ask. */
  _refusalIn(error) {
    return error instanceof Refused ? error : new Refused("lost");
  }

  _wait({ reason, waitMs }, code) {
    if (this._isClosed || this._socket) return;
    if (waitMs === null) {
      this._setState("waiting", { reason, code });
      return;
    }
    const ms = waitMs ?? this._nextBackoffMs();
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this.retry(), ms);
    this._setState("waiting", { reason, code, retryAtMs: performance.now() + ms });
  }

  _nextBackoffMs() {
    const ms = this._backoffMs * (0.8 + 0.4 * Math.random());
    this._backoffMs = Math.min(LONGEST_BACKOFF_MS, this._backoffMs * 2);
    return ms;
  }

  _setState(state, detail = {}) {
    this.state = state;
    this._tell("state", { state, ...detail });
  }

  _tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
