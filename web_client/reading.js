/**
 * The text and segments of an utterance in, the word that is being said marked on the page.
 *
 * The daemon tells where in the audio each segment begins. Inside a segment the place is estimated:
 * time is shared out by the letters of the words, and by the pauses that punctuation asks for.
 */

const LETTER = 1;
const WEIGHTS = [
  [/[.!?…]/u, 6],
  [/[,;:–—]/u, 3],
  [/\s/u, 0.6],
];
const FIRST_GUESS_CHARS_PER_S = 15;

function weightOf(char) {
  return WEIGHTS.find(([pattern]) => pattern.test(char))?.[1] ?? LETTER;
}

/** Pure: segments and a place in the audio in, a character position out. */
export class PlaceInText {
  constructor(sampleRate) {
    this._rate = sampleRate;
    this._segments = [];
    this._weightPerS = FIRST_GUESS_CHARS_PER_S;
    this._total = null;
  }

  /** A `segment` message: its text, its character span, and the sample where it starts. */
  add({ text, start, sample }) {
    this._closeLast(sample);
    let total = 0;
    const sums = Array.from(text, (char) => (total += weightOf(char)));
    this._segments.push({ start, sums, total, fromS: sample / this._rate, toS: null });
  }

  /** How many samples there are in all. */
  finish(samples) {
    this._closeLast(samples);
  }

  /** The code point that is being said after so many seconds of audio; null before the first. */
  charAt(heardS) {
    const segment = this._segments.findLast(({ fromS }) => fromS <= heardS);
    if (!segment) return null;
    const toS = segment.toS ?? segment.fromS + segment.total / this._weightPerS;
    const share = Math.min(1, (heardS - segment.fromS) / Math.max(0.001, toS - segment.fromS));
    const index = segment.sums.findIndex((sum) => sum >= share * segment.total);
    return segment.start + Math.max(0, index);
  }

  _closeLast(sample) {
    const last = this._segments.at(-1);
    if (!last || last.toS !== null) return;
    last.toS = sample / this._rate;
    this._weightPerS = last.total / Math.max(0.2, last.toS - last.fromS);
  }
}

/** The words of one utterance in a box that follows the speech. */
export class Reading {
  constructor(box) {
    this._box = box;
    this._clear();
  }

  follow(utterance, sampleRate) {
    this._clear();
    this._box.replaceChildren();
    const place = new PlaceInText(sampleRate);
    let numRead = 0;
    utterance.addEventListener("text", () => {
      this._append(utterance.text.slice(numRead));
      numRead = utterance.text.length;
    });
    utterance.addEventListener("segment", ({ detail }) => place.add(detail));
    utterance.addEventListener("received", ({ detail }) => place.finish(detail.samples));
    utterance.addEventListener("level", () => this._mark(place.charAt(utterance.heardMs / 1000)));
    utterance.addEventListener("close", ({ detail }) => this._close(detail));
  }

  _clear() {
    this._words = [];
    this._numChars = 0;
    this._now = -1;
    this._endsInWord = false;
  }

  _append(text) {
    for (const piece of text.match(/\s+|\S+/gu) ?? []) {
      const isWord = /\S/u.test(piece);
      if (!isWord) this._box.append(piece);
      else if (this._endsInWord) this._words.at(-1).span.textContent += piece;
      else this._addWord(piece);
      this._numChars += Array.from(piece).length;
      this._endsInWord = isWord;
    }
  }

  _addWord(piece) {
    const span = document.createElement("span");
    span.textContent = piece;
    this._box.append(span);
    this._words.push({ span, start: this._numChars });
  }

  _mark(char) {
    if (char === null) return;
    let index = this._now;
    while (index + 1 < this._words.length && this._words[index + 1].start <= char) index += 1;
    if (index === this._now) return;
    for (let said = Math.max(0, this._now); said < index; said += 1) {
      this._words[said].span.className = "said";
    }
    this._now = index;
    this._words[index].span.className = "now";
    this._keepInView(this._words[index].span);
  }

  /** Scrolls the box only: the page stays where the reader put it. */
  _keepInView(span) {
    const top = span.offsetTop - this._box.offsetTop;
    const isSeen = top >= this._box.scrollTop && top < this._box.scrollTop + this._box.clientHeight - 40;
    if (!isSeen) this._box.scrollTop = top - this._box.clientHeight / 3;
  }

  _close({ reason, textSpoken }) {
    const numSaid =
      reason === "ended" ? this._numChars : textSpoken && Array.from(textSpoken).length;
    for (const { span, start } of this._words) {
      const isSaid = numSaid === undefined ? span.className !== "" : start < numSaid;
      span.className = isSaid ? "said" : "unsaid";
    }
  }
}
