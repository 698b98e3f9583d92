/**
 * Sound in; every sample that was rendered out when asked to "give", or to "listen": the wall time
 * of the next sample that can be heard. For tests.
 */
const AUDIBLE = 10 ** (-50 / 20);

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this._blocks = [];
    this._firstFrame = null;
    this._isListening = false;
    this.port.onmessage = ({ data }) => {
      if (data === "listen") this._isListening = true;
      else this._give();
    };
  }

  process([[input]], [[output]]) {
    this._firstFrame ??= currentFrame;
    this._blocks.push(input ? input.slice() : new Float32Array(output.length));
    if (this._isListening && input?.some((sample) => Math.abs(sample) > AUDIBLE)) {
      this._isListening = false;
      this.port.postMessage({ heardAt: Date.now() });
    }
    return true;
  }

  _give() {
    const length = this._blocks.reduce((sum, block) => sum + block.length, 0);
    const samples = new Float32Array(length);
    let position = 0;
    for (const block of this._blocks) {
      samples.set(block, position);
      position += block.length;
    }
    this.port.postMessage({ samples, firstFrame: this._firstFrame ?? 0 }, [samples.buffer]);
  }
}

registerProcessor("tap", Tap);
