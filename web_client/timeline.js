/**
 * Events of one utterance in; its history as a drawing, as a sentence, and as two figures out.
 *
 * Three rows over one time axis that starts with the first text: text written, audio received, sound
 * heard, with every underrun.
 */

const SVG = "http://www.w3.org/2000/svg";
const ROWS = ["Text in", "Received", "Heard"];
const ROW_PX = 26;
const LABEL_PX = 76;
const AXIS_PX = 22;
/** Arrivals closer than this are drawn as one bar. */
const BURST_MS = 80;
/** Beyond this share of its lead the daemon sends no faster than one listens. */
const PACED_AT = 0.9;
const REDRAW_MS = 250;
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300];

/** Pure: what happened when, in ms since the first text. */
export class History {
  constructor() {
    this.text = [];
    this.received = [];
    this.heard = [];
    this.underruns = [];
    this.firstPacketMs = null;
    this.firstSoundMs = null;
    this.endMs = null;
    this.realTimeFactor = null;
    this._startedAt = null;
    this._receivedMs = 0;
    this._isPaced = false;
    this._leadMs = Infinity;
  }

  setLead(leadMs) {
    this._leadMs = leadMs;
  }

  noteText(atMs) {
    this._startedAt ??= atMs;
    extend(this.text, atMs - this._startedAt);
  }

  /** Received is how fast the daemon is, until it has sent as far ahead as it may. */
  notePacket(atMs, ms) {
    const now = atMs - this._startedAt;
    this.firstPacketMs ??= now;
    extend(this.received, now);
    this._receivedMs += ms;
    const leadMs = this._receivedMs - (now - this.firstPacketMs);
    if (leadMs > PACED_AT * this._leadMs) this._isPaced = true;
    if (!this._isPaced) this.realTimeFactor = now / this._receivedMs;
  }

  noteSound(atMs) {
    this.firstSoundMs = atMs - this._startedAt;
  }

  notePlaying(atMs) {
    this.heard.push({ from: atMs - this._startedAt, to: null });
  }

  noteSilence(atMs, { isUnderrun }) {
    const now = atMs - this._startedAt;
    const last = this.heard.at(-1);
    if (last && last.to === null) last.to = Math.max(last.from, now);
    if (isUnderrun) this.underruns.push(now);
  }

  noteEnd(atMs) {
    this.noteSilence(atMs, { isUnderrun: false });
    this.endMs = atMs - this._startedAt;
  }

  /** The whole of it in words. */
  describe() {
    if (this.firstPacketMs === null) return "Text is written; no audio has come yet.";
    const said = [`First packet after ${show(this.firstPacketMs)}`];
    if (this.firstSoundMs !== null) said.push(`first sound after ${show(this.firstSoundMs)}`);
    const count = this.underruns.length;
    said.push(count ? `${count} underrun${count > 1 ? "s" : ""}` : "no underrun");
    if (this.endMs !== null) said.push(`ended after ${show(this.endMs)}`);
    return `${said.join(", ")}.`;
  }
}

function extend(spans, now) {
  const last = spans.at(-1);
  if (last && now - last.to < BURST_MS) last.to = now;
  else spans.push({ from: now, to: now });
}

/** 87 ms, 1.24 s. */
export function show(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

export class Timeline {
  /** `onChange(history)` is called whenever a figure may have changed. */
  constructor({ drawing, text, onChange }) {
    this._drawing = drawing;
    this._text = text;
    this._onChange = onChange;
    this._history = null;
    this._timer = null;
    new ResizeObserver(() => this._draw()).observe(drawing);
  }

  follow(utterance) {
    const history = new History();
    this._history = history;
    const on = (type, act) =>
      utterance.addEventListener(type, ({ detail }) => {
        act(detail);
        if (this._history === history) this._ask();
      });
    on("opened", ({ max_lead_ms }) => history.setLead(max_lead_ms));
    on("text", ({ atMs }) => history.noteText(atMs));
    on("packet", ({ atMs, ms }) => history.notePacket(atMs, ms));
    on("start", ({ atMs }) => history.notePlaying(atMs));
    on("resume", ({ atMs }) => history.notePlaying(atMs));
    on("sound", ({ atMs }) => history.noteSound(atMs));
    on("underrun", ({ atMs }) => history.noteSilence(atMs, { isUnderrun: true }));
    on("pause", ({ atMs }) => history.noteSilence(atMs, { isUnderrun: false }));
    on("level", () => {});
    on("close", ({ atMs }) => history.noteEnd(atMs));
  }

  _ask() {
    this._timer ??= setTimeout(() => {
      this._timer = null;
      this._draw();
      this._onChange(this._history);
    }, REDRAW_MS);
  }

  _draw() {
    if (!this._history) return;
    this._text.textContent = this._history.describe();
    const width = this._drawing.clientWidth;
    const height = ROWS.length * ROW_PX + AXIS_PX;
    const spans = [this._history.text, this._history.received, this._history.heard];
    const ends = spans.flat().map(({ from, to }) => to ?? from);
    const nowMs = this._history.endMs ?? Math.max(400, ...ends);
    const xOf = (ms) => LABEL_PX + (Math.max(0, ms) / (nowMs * 1.02)) * (width - LABEL_PX - 8);
    this._drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = axis(nowMs, { width: width - LABEL_PX, height, xOf });
    ROWS.forEach((name, row) => {
      const y = row * ROW_PX + ROW_PX / 2;
      parts.push(shape("text", { x: 0, y: y + 4, class: "label" }, name));
      for (const { from, to } of spans[row]) {
        const end = to ?? nowMs;
        const wide = Math.max(3, xOf(end) - xOf(from));
        const box = { x: xOf(from), y: y - 6, width: wide, height: 12, rx: 3 };
        parts.push(shape("rect", { ...box, class: `row-${row}` }));
      }
    });
    for (const ms of this._history.underruns) {
      const y = 2 * ROW_PX + 2;
      const mark = shape("rect", { x: xOf(ms) - 1.5, y, width: 3, height: 22, class: "underrun" });
      mark.append(shape("title", {}, `underrun after ${show(ms)}`));
      parts.push(mark);
    }
    this._drawing.replaceChildren(...parts);
  }
}

function axis(endMs, { width, height, xOf }) {
  const most = Math.max(2, Math.floor(width / 55));
  const stepS = STEPS_S.find((step) => endMs / 1000 / step <= most) ?? STEPS_S.at(-1);
  const parts = [];
  for (let second = 0; second * 1000 <= endMs * 1.02; second += stepS) {
    const x = xOf(second * 1000);
    parts.push(shape("line", { x1: x, x2: x, y1: 0, y2: height - AXIS_PX, class: "tick" }));
    const label = `${Number(second.toFixed(1))} s`;
    parts.push(shape("text", { x, y: height - 5, class: "time" }, label));
  }
  return parts;
}

function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
