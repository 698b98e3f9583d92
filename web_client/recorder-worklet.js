/** Runs in the audio thread: the microphone's sound in, its samples out, one message a block. */

class Recording extends AudioWorkletProcessor {
  process([input]) {
    // No channel while the microphone is not there yet.
    if (input.length) this.port.postMessage(input[0].slice());
    return true;
  }
}

registerProcessor("recording", Recording);
