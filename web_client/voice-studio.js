/**
 * Clicks, a file or a recording in; a voice of one's own, and the list of them, out: one card of the
 * page, there only where the daemon takes clips.
 */

import { LONGEST_S, Recorder } from "./recorder.js";

const TICK_MS = 200;
const HOUR_S = 3600;
const WORDS = {
  sending: (share) => `Sending, ${Math.round(100 * share)} %`,
  waiting: (ahead) => `Waiting; ${ahead} before this one`,
  making: () => "Making the voice",
};

export class VoiceStudio {
  /** `onReady` is called with the name of a new voice. */
  constructor(find, ownVoices, { onReady }) {
    this._find = (name) => find(`own-${name}`);
    this._own = ownVoices;
    this._onReady = onReady;
    this._isFull = false;
    this._isMaking = false;
    this._recorder = null;
    this._recorded = null;
    this._ticker = null;
    this._find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this._make();
    });
    this._find("file").addEventListener("change", () => this._choose(null));
    this._find("record").addEventListener("click", () => this._record());
    this._find("record").hidden = !Recorder.isPossible;
    ownVoices.addEventListener("voices", ({ detail }) => this._show(detail.voices));
  }

  _show(voices) {
    const { terms } = this._own;
    this._find("voices").hidden = terms === null;
    if (terms === null) return;
    this._find("list").replaceChildren(...voices.map((voice) => this._entry(voice)));
    this._isFull = voices.length >= terms.voices;
    this._showButton();
    this._find("full").hidden = !this._isFull;
  }

  _entry({ voice, name, seconds, expires_in_s }) {
    const entry = document.createElement("li");
    const title = document.createElement("strong");
    title.textContent = name;
    const facts = document.createElement("span");
    facts.className = "hint";
    facts.textContent = `from ${seconds.toFixed(1)} s${expires_in_s === null ? "" : `, ${left(expires_in_s)} left`}`;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "quiet";
    remove.textContent = "Delete";
    remove.setAttribute("aria-label", `Delete the voice ${name}`);
    remove.onclick = () => {
      remove.disabled = true;
      this._own.delete(voice);
    };
    entry.append(title, facts, remove);
    return entry;
  }

  // --- a clip -------------------------------------------------------------------------------------

  /** A recording, or null for the chosen file. */
  _choose(recorded) {
    this._recorded = recorded;
    if (recorded !== null) this._find("file").value = "";
    this._tell("");
  }

  async _record() {
    if (this._recorder) {
      await this._stopRecording();
      return;
    }
    const button = this._find("record");
    button.disabled = true;
    try {
      this._recorder = await Recorder.start();
    } catch (error) {
      this._tell(`The browser gives no microphone: ${error.message}`);
      return;
    } finally {
      button.disabled = false;
    }
    button.textContent = "Stop recording";
    this._ticker = setInterval(() => {
      this._tell(`Recording, ${this._recorder.seconds.toFixed(0)} s`);
      if (this._recorder.seconds >= LONGEST_S) this._stopRecording();
    }, TICK_MS);
  }

  async _stopRecording() {
    const recorder = this._recorder;
    this._recorder = null;
    clearInterval(this._ticker);
    this._find("record").textContent = "Record";
    this._choose(await recorder.stop());
    this._tell(`Recorded ${recorder.seconds.toFixed(1)} s.`);
  }

  // --- a voice ------------------------------------------------------------------------------------

  async _make() {
    if (this._recorder) await this._stopRecording();
    const clip = this._recorded ?? this._find("file").files[0];
    if (!clip) {
      this._tell("Choose a file, or record something, first.");
      return;
    }
    if (!clip.size) {
      this._tell("That file is empty: choose another one.");
      return;
    }
    const bar = this._find("progress");
    this._isMaking = true;
    this._showButton();
    bar.hidden = false;
    try {
      const ready = await this._own.clone(clip, {
        name: this._find("name").value,
        consent: this._find("consent").checked,
        onProgress: (state, value) => {
          if (state === "sending") bar.value = value;
          else bar.removeAttribute("value");
          this._tell(WORDS[state]?.(value) ?? state);
        },
      });
      this._find("form").reset();
      this._recorded = null;
      const but = ready.warnings.map((warning) => ` ${warning}.`).join("");
      this._tell(`The voice ${ready.name} is ready, and chosen above.${but}`);
      this._onReady(ready);
    } catch (error) {
      if (error.name !== "NoVoice") throw error;
      this._tell(`No voice: ${error.message}. ${error.hint}`);
    } finally {
      bar.hidden = true;
      this._isMaking = false;
      this._showButton();
    }
  }

  _showButton() {
    this._find("send").disabled = this._isFull || this._isMaking;
  }

  _tell(text) {
    this._find("state").textContent = text;
  }
}

function left(seconds) {
  const hours = seconds / HOUR_S;
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return hours >= 1 ? `${Math.floor(hours)} h` : `${Math.ceil(seconds / 60)} min`;
}
