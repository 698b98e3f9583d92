/**
 * What the daemon lets a text ask for in (`begin`), a button for each out: it writes a pause or a tag
 * into the text box, where the cursor is.
 */

const PAUSE_MS = 500;

export class Palette {
  constructor({ box, textBox }) {
    this._box = box;
    this._textBox = textBox;
  }

  /** Build the buttons anew from a `begin` message. */
  show({ tags, limits }) {
    const buttons = tags.map((tag) => this._button(tag.slice(1, -1), tag));
    const pauseMs = Math.min(PAUSE_MS, limits.break_ms);
    if (pauseMs) buttons.unshift(this._button("pause", `<break time="${pauseMs}ms"/>`));
    this._box.replaceChildren(...buttons);
    this._box.hidden = buttons.length === 0;
  }

  _button(name, written) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.textContent = name;
    button.title = `Write ${written}`;
    button.addEventListener("click", () => this._write(written));
    return button;
  }

  _write(written) {
    const { value, selectionStart: start, selectionEnd: end } = this._textBox;
    const before = start > 0 && !/\s/u.test(value[start - 1]) ? " " : "";
    const after = end < value.length && /\s/u.test(value[end]) ? "" : " ";
    this._textBox.setRangeText(before + written + after, start, end, "end");
    this._textBox.focus();
    this._textBox.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }
}
