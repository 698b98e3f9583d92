/** Every sample that comes in, kept; all of them out when asked. For tests. */
class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this._blocks = [];
    this._firstFrame = null;
    this.port.onmessage = () => this._give();
  }

  process([[input]], [[output]]) {
    this._firstFrame ??= currentFrame;
    this._blocks.push(input ? input.slice() : new Float32Array(output.length));
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
