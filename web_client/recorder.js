/**
 * The microphone in, a WAV file out.
 *
 * Not MediaRecorder: what it writes (Opus in WebM) is no format for the daemon, and has lost sound.
 */

const WAV_HEADER_BYTES = 44;
/** The daemon's models hear the first 10 to 15 s in detail. */
export const LONGEST_S = 30;

export class Recorder {
  /** Resolves when the microphone is on; rejects as `getUserMedia` does. */
  static async start() {
    const microphone = await navigator.mediaDevices.getUserMedia({
      // A voice as it is: what makes calls clearer takes something of it away.
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("./recorder-worklet.js", import.meta.url));
      return new Recorder(microphone, context);
    } catch (error) {
      for (const track of microphone.getTracks()) track.stop();
      await context.close();
      throw error;
    }
  }

  static get isPossible() {
    return Boolean(navigator.mediaDevices?.getUserMedia && globalThis.AudioWorkletNode);
  }

  constructor(microphone, context) {
    this._microphone = microphone;
    this._context = context;
    this._blocks = [];
    this._numSamples = 0;
    const source = context.createMediaStreamSource(microphone);
    const recording = new AudioWorkletNode(context, "recording", {
      channelCount: 1,
      channelCountMode: "explicit",
      numberOfOutputs: 0,
    });
    recording.port.onmessage = ({ data }) => {
      this._blocks.push(data);
      this._numSamples += data.length;
    };
    source.connect(recording);
  }

  get seconds() {
    return this._numSamples / this._context.sampleRate;
  }

  /** What was recorded, as a file; the microphone is off again. */
  async stop() {
    for (const track of this._microphone.getTracks()) track.stop();
    await this._context.close();
    return new File([wav(this._blocks, this._numSamples, this._context.sampleRate)], "recorded.wav", {
      type: "audio/wav",
    });
  }
}

/** Blocks of samples in -1 … 1 as a WAV file of 16 bits, one channel. */
export function wav(blocks, numSamples, rate) {
  const view = new DataView(new ArrayBuffer(WAV_HEADER_BYTES + 2 * numSamples));
  const word = (offset, text) => {
    for (const [index, char] of [...text].entries()) view.setUint8(offset + index, char.charCodeAt(0));
  };
  word(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, 2 * numSamples, true);
  let offset = WAV_HEADER_BYTES;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(offset, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
      offset += 2;
    }
  }
  return view.buffer;
}
