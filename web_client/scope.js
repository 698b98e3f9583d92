/**
 * Loudness of received audio and the place that is being heard in; a moving waveform out.
 *
 * Left of the line is what was heard, right of it what is here and waits. Draws only when something
 * happened; with reduced motion it does not move more than twice a second.
 */

const SHOWN_MS = 8000;
const BAR_MS = 60;
const NOW_AT = 0.5;
/** Drawing shares its thread with the decoder: sound comes first. */
const REDRAW_MS = 60;
const CALM_MS = 500;
const COLOURS = ["--line", "--accent", "--waiting", "--bad", "--ink"];
const SMALLEST_BAR = 0.02;

export class Scope {
  constructor(canvas) {
    this._canvas = canvas;
    this._isAsked = false;
    this._calm = matchMedia("(prefers-reduced-motion: reduce)");
    this._clear();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this._fit());
    new ResizeObserver(() => this._fit()).observe(canvas);
  }

  /** Take over size and colours of the page. */
  _fit() {
    const scale = globalThis.devicePixelRatio || 1;
    this._width = this._canvas.clientWidth;
    this._height = this._canvas.clientHeight;
    this._canvas.width = Math.round(this._width * scale);
    this._canvas.height = Math.round(this._height * scale);
    this._pen = this._canvas.getContext("2d");
    this._pen.scale(scale, scale);
    const style = getComputedStyle(this._canvas);
    this._colours = Object.fromEntries(
      COLOURS.map((name) => [name, style.getPropertyValue(name).trim()]),
    );
    this._ask();
  }

  follow(utterance) {
    this._clear();
    this._utterance = utterance;
    utterance.addEventListener("packet", ({ detail }) => this._add(detail));
    utterance.addEventListener("level", () => this._ask());
    utterance.addEventListener("underrun", ({ detail }) => this._underruns.push(detail.positionMs));
    utterance.addEventListener("close", () => this._ask());
    this._ask();
  }

  _clear() {
    this._utterance = null;
    this._bars = [];
    this._underruns = [];
    this._receivedMs = 0;
  }

  /** One bar holds the loudest of the packets that begin in it. */
  _add({ ms, peak }) {
    const index = Math.floor(this._receivedMs / BAR_MS);
    this._bars[index] = Math.max(this._bars[index] ?? 0, peak);
    this._receivedMs += ms;
    this._ask();
  }

  _ask() {
    if (this._isAsked) return;
    this._isAsked = true;
    const isMoving = this._utterance !== null && !this._utterance.isOver;
    const pause = isMoving && this._calm.matches ? CALM_MS : REDRAW_MS;
    setTimeout(() => {
      requestAnimationFrame(() => {
        this._isAsked = false;
        this._draw();
      });
    }, pause);
  }

  _draw() {
    const [pen, width, height] = [this._pen, this._width, this._height];
    if (!pen) return;
    const heardMs = this._utterance?.heardMs ?? 0;
    const xOf = (ms) => width * NOW_AT + ((ms - heardMs) / SHOWN_MS) * width;
    const colour = (name) => this._colours[name];

    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colour("--line");
    pen.fillRect(0, height / 2 - 0.5, width, 1);
    const barWidth = Math.max(1.5, (BAR_MS / SHOWN_MS) * width - 1.5);
    const first = Math.max(0, Math.floor((heardMs - SHOWN_MS * NOW_AT) / BAR_MS));
    const last = Math.min(this._bars.length, first + Math.ceil(SHOWN_MS / BAR_MS) + 2);
    for (let index = first; index < last; index += 1) {
      const bar = Math.max(SMALLEST_BAR, Math.min(1, this._bars[index] ?? 0) ** 0.7);
      const isHeard = index * BAR_MS < heardMs;
      pen.fillStyle = colour(isHeard ? "--accent" : "--waiting");
      pen.beginPath();
      pen.roundRect(xOf(index * BAR_MS), (height - bar * height) / 2, barWidth, bar * height, 2);
      pen.fill();
    }
    pen.fillStyle = colour("--bad");
    for (const ms of this._underruns) pen.fillRect(xOf(ms) - 1, 0, 2, height);
    pen.fillStyle = colour("--ink");
    pen.fillRect(width * NOW_AT - 0.75, 0, 1.5, height);
  }
}
