/**
 * The words of an utterance and when each is heard in, the one that is being said marked on the page.
 */

/** Pure: segments, words and a place in the audio in, a character position out. */
export class PlaceInText {
  constructor(sampleRate) {
    this._rate = sampleRate;
    this._marks = [];
  }

  /** A `segment` message: its first word may be told later than it begins. */
  addSegment({ start, sample }) {
    this._marks.push({ char: start, fromS: sample / this._rate });
  }

  /** A `words` message. */
  addWords({ words }) {
    for (const { start, sample } of words) {
      this._marks.push({ char: start, fromS: sample / this._rate });
    }
  }

  /** The code point whose word is being said after so many seconds of audio; null before any. */
  charAt(heardS) {
    return this._marks.findLast(({ fromS }) => fromS <= heardS)?.char ?? null;
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
    utterance.addEventListener("segment", ({ detail }) => place.addSegment(detail));
    utterance.addEventListener("words", ({ detail }) => place.addWords(detail));
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
