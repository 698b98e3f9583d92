/**
 * What the daemon offers (`begin`) in, a form out; what is chosen there in, settings of an utterance
 * out. Choices stay in this browser.
 */

import { MAX_SEED } from "./protocol.js";

const KEY = "chatterboxd";
const FORMATS = {
  auto: "Opus if the browser can",
  opus: "Opus",
  pcm_s16le: "PCM (no compression)",
};

/** Remembers one object in this browser. */
class Memory {
  constructor() {
    /** Why nothing can be remembered, or null. */
    this.trouble = null;
    this.values = this._read();
  }

  set(name, value) {
    this.values[name] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch (error) {
      this.trouble = `Your choices last until this page is closed: ${error.message}`;
    }
  }

  _read() {
    try {
      const read = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      return typeof read === "object" && read !== null ? read : {};
    } catch (error) {
      this.trouble = `Earlier choices could not be read: ${error.message}`;
      return {};
    }
  }
}

export class Settings {
  constructor({ form, note, onFormat }) {
    this._form = form;
    this._note = note;
    this._onFormat = onFormat;
    this._memory = new Memory();
    this._offer = null;
    /** Own voices: what `open` calls them → what a person does. */
    this._names = {};
    this._own = [];
  }

  /** "auto", "opus" or "pcm_s16le". */
  get format() {
    return Object.hasOwn(FORMATS, this._memory.values.format) ? this._memory.values.format : "auto";
  }

  get mode() {
    return this._memory.values.mode === "typing" ? "typing" : "enter";
  }

  set mode(value) {
    this._memory.set("mode", value);
  }

  /** Fields of `open`. */
  forUtterance() {
    const { voice, language, seed, max_buffer_delay_ms } = this._chosen();
    return { voice, language, seed, max_buffer_delay_ms, options: this._chosenOptions() };
  }

  /** Build the form anew from a `begin` message; what was chosen before and still exists stays. */
  show(offer) {
    this._offer = offer;
    const chosen = this._chosen();
    const { limits } = offer;
    const rows = [select("voice", "Voice", offer.voices, chosen.voice, this._names)];
    if (offer.languages.length > 1) {
      rows.push(select("language", "Language", offer.languages, chosen.language));
    }
    for (const option of offer.options) {
      rows.push(slider(option, this._chosenOptions()[option.name]));
    }
    rows.push(
      number("seed", "Seed", { value: chosen.seed, minimum: 0, maximum: MAX_SEED }),
      number("max_buffer_delay_ms", "Wait for unfinished phrases (ms)", {
        value: chosen.max_buffer_delay_ms,
        minimum: 0,
        maximum: limits.buffer_delay_ms_max,
      }),
      select("format", "Audio", Object.keys(FORMATS), this.format, FORMATS),
    );
    this._form.replaceChildren(...rows);
    this._form.onsubmit = (event) => event.preventDefault();
    this._form.onchange = ({ target }) => this._take(target);
    this._form.oninput = ({ target }) => showValue(target);
    this._tellTrouble();
  }

  /** The voices that this page's token has had made, in place of those known before. */
  showOwnVoices(voices) {
    const own = voices.map(({ voice }) => voice);
    const former = [...this._own, ...own];
    const models = this._offer.voices.filter((voice) => !former.includes(voice));
    this._own = own;
    this._names = Object.fromEntries(voices.map(({ voice, name }) => [voice, name]));
    this.show({ ...this._offer, voices: [...models, ...own] });
  }

  chooseVoice(voice) {
    this._memory.set("voice", voice);
    this.show(this._offer);
  }

  _take(field) {
    if (!field.checkValidity()) {
      field.reportValidity();
      return;
    }
    const value = ["range", "number"].includes(field.type) ? Number(field.value) : field.value;
    if (field.dataset.option) {
      const options = { ...this._memory.values.options, [field.dataset.option]: value };
      this._memory.set("options", options);
    } else {
      this._memory.set(field.name, value);
    }
    this._tellTrouble();
    if (field.name === "format") this._onFormat(value);
  }

  _tellTrouble() {
    this._note.textContent = this._memory.trouble ?? "Remembered in this browser.";
  }

  _chosen() {
    const { voice, language, seed, max_buffer_delay_ms } = this._memory.values;
    const { voices, default_voice, languages, limits } = this._offer;
    return {
      voice: voices.includes(voice) ? voice : default_voice,
      language: languages.includes(language) ? language : languages[0],
      seed: within(seed, 0, MAX_SEED) ? seed : 0,
      max_buffer_delay_ms: within(max_buffer_delay_ms, 0, limits.buffer_delay_ms_max)
        ? max_buffer_delay_ms
        : limits.buffer_delay_ms_default,
    };
  }

  _chosenOptions() {
    const kept = this._memory.values.options ?? {};
    return Object.fromEntries(
      this._offer.options.map(({ name, default: usual, minimum, maximum }) => [
        name,
        within(kept[name], minimum, maximum) ? kept[name] : usual,
      ]),
    );
  }
}

function within(value, minimum, maximum) {
  return typeof value === "number" && value >= minimum && value <= maximum;
}

function row(name, title, field, help) {
  const box = document.createElement("div");
  const label = document.createElement("label");
  label.htmlFor = field.id = `set-${name}`;
  label.textContent = title;
  field.name = name;
  box.append(label, field);
  if (help) {
    const text = document.createElement("p");
    text.className = "hint";
    text.id = `help-${name}`;
    text.textContent = help;
    field.setAttribute("aria-describedby", text.id);
    box.append(text);
  }
  return box;
}

function select(name, title, values, chosen, names = {}) {
  const field = document.createElement("select");
  for (const value of values) {
    field.append(new Option(names[value] ?? value, value, false, value === chosen));
  }
  return row(name, title, field);
}

function number(name, title, { value, minimum, maximum }) {
  const field = document.createElement("input");
  Object.assign(field, { type: "number", min: minimum, max: maximum, step: 1, value, required: true });
  return row(name, title, field);
}

function slider({ name, minimum, maximum, description }, value) {
  const field = document.createElement("input");
  // "any": a step would move a default that does not lie on its grid.
  Object.assign(field, { type: "range", min: minimum, max: maximum, step: "any", value });
  field.dataset.option = name;
  const box = row(name, name.replaceAll("_", " "), field, description);
  const shown = document.createElement("output");
  shown.htmlFor = field.id;
  box.querySelector("label").append(" ", shown);
  showValue(field);
  return box;
}

function showValue(field) {
  const shown = field.parentElement.querySelector("output");
  if (shown) shown.textContent = Number(Number(field.value).toPrecision(3));
}
