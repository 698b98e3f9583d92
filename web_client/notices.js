/**
 * What went wrong in, what a person needs to know and can do about it out.
 */

import { CLOSE_CODES } from "./protocol.js";

const INSECURE = `This page came over plain HTTP from ${location.host}. Browsers give AudioWorklet, \
WebCodecs and the microphone only to pages that come over HTTPS, or from this machine itself. Ask whoever \
runs the daemon to switch on TLS and open https:// instead, or forward the port (ssh -L \
8765:localhost:8765 …) and open http://localhost:8765. docs/browser.md shows both.`;

/** Code → [title, text] for what makes speaking impossible. */
const IMPOSSIBLE = {
  insecure: ["This address cannot play sound", INSECURE],
  no_audio_worklet: [
    "This browser cannot play live sound",
    "It has no AudioWorklet. Any Chrome, Edge or Firefox of the last years has it, and Safari from 14.1.",
  ],
};

/** What a person calls it. */
const WAITING = {
  full: ["The daemon is full", "Every place is taken."],
  draining: ["The daemon is shutting down", "It is probably being restarted."],
  lost: ["No connection to the daemon", "It may be down, or the network is."],
  rate: ["The daemon asks for patience", "Too many requests came from this address."],
  refused: [
    "The daemon does not let this page in",
    "It may be that this page's address is not among its allowed origins, or that too many pages of this " +
      "machine are connected.",
  ],
  token: ["This daemon asks for a token", "Whoever runs it can give you one."],
};

export class Notices {
  constructor(find, { onRetry, onToken }) {
    this._box = find("notice");
    this._title = find("notice-title");
    this._text = find("notice-text");
    this._form = find("notice-token");
    this._action = find("notice-action");
    this._timer = null;
    this._onRetry = onRetry;
    this._form.addEventListener("submit", (event) => {
      event.preventDefault();
      onToken(find("token").value);
    });
  }

  clear() {
    clearInterval(this._timer);
    this._timer = null;
    this._box.hidden = true;
  }

  impossible(code) {
    this._show(...IMPOSSIBLE[code]);
  }

  /** A `state` event of the player whose state is "waiting". */
  waiting({ reason, code, retryAtMs }) {
    const [title, text] = WAITING[reason];
    const why = CLOSE_CODES[code] && reason === "lost" ? CLOSE_CODES[code] : text;
    this._show(title, why, { tone: "calm" });
    this._form.hidden = reason !== "token";
    if (retryAtMs === undefined) return;
    this._offer("Try now", this._onRetry);
    const tell = () => {
      const seconds = Math.max(0, Math.ceil((retryAtMs - performance.now()) / 1000));
      this._text.textContent = `${why} Trying again in ${seconds} s.`;
    };
    tell();
    this._timer = setInterval(tell, 1000);
  }

  /** The browser waits for a click before it lets sound out. */
  heldBack(onResume) {
    this._show("Your browser holds the sound back", "It wants a click first.", { tone: "calm" });
    this._offer("Let it sound", onResume);
  }

  /** An utterance that failed, or a message that had no effect. */
  failed({ code, message, hint }) {
    const title = code === "busy" ? "All voices are busy" : "That could not be said";
    this._show(title, [sentence(message), hint].filter(Boolean).join(" "));
    this._offer("Close", () => this.clear());
  }

  _show(title, text, { tone = "bad" } = {}) {
    this.clear();
    this._title.textContent = title;
    this._text.textContent = text;
    this._form.hidden = true;
    this._action.hidden = true;
    this._box.dataset.tone = tone;
    this._box.hidden = false;
  }

  _offer(label, act) {
    this._action.textContent = label;
    this._action.onclick = act;
    this._action.hidden = false;
  }
}

function sentence(text) {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/u.test(upper) ? upper : `${upper}.`;
}
