/**
 * Audio messages of one context in, in order; samples out, in order, pre-skip and padding trimmed.
 *
 * Opus is decoded by the browser (WebCodecs) at 48 kHz, PCM is only unpacked at 24 kHz.
 */

import { PACKET_MS, PRE_SKIP_48K, ProtocolError } from "./protocol.js";

const OPUS_CONFIG = { codec: "opus", sampleRate: 48_000, numberOfChannels: 1 };
const PACKET_FRAMES = (OPUS_CONFIG.sampleRate * PACKET_MS) / 1000;

/** Samples per second that each format decodes to. */
export const DECODED_RATE = { opus: OPUS_CONFIG.sampleRate, pcm_s16le: 24_000 };

/** Null, or why this browser cannot decode Opus. */
export async function whyNoOpus() {
  if (typeof AudioDecoder === "undefined") return "this browser has no WebCodecs AudioDecoder";
  const { supported } = await AudioDecoder.isConfigSupported(OPUS_CONFIG);
  return supported ? null : "this browser's AudioDecoder does not know Opus";
}

/** `onSamples(Float32Array)`; `onError(error)` at most once, after which nothing comes. */
export function newDecoder(format, { onSamples, onError }) {
  return format === "opus"
    ? new OpusDecoder({ onSamples, onError })
    : new PcmDecoder({ onSamples });
}

class OpusDecoder {
  constructor({ onSamples, onError }) {
    this._onSamples = onSamples;
    this._onError = onError;
    /** Samples at 48 kHz to keep of each packet that the browser is still decoding. */
    this._expected = [];
    this._isFirst = true;
    this._isClosed = false;
    this._decoder = new AudioDecoder({
      output: (data) => this._take(data),
      error: (error) => this._fail(error),
    });
    this._decoder.configure(OPUS_CONFIG);
  }

  push({ sequence, numSamples, payload }) {
    if (this._isClosed) return;
    this._expected.push((numSamples * OPUS_CONFIG.sampleRate) / DECODED_RATE.pcm_s16le);
    const packet = new EncodedAudioChunk({
      type: "key",
      timestamp: sequence * PACKET_MS * 1000,
      duration: PACKET_MS * 1000,
      data: payload,
    });
    try {
      this._decoder.decode(packet);
    } catch (error) {
      this._fail(error);
    }
  }

  /** Resolves when everything pushed has come out. */
  async finish() {
    if (this._isClosed) return;
    try {
      await this._decoder.flush();
    } catch (error) {
      if (error.name !== "AbortError") throw error; // closed meanwhile
    }
    this.close();
  }

  close() {
    if (this._isClosed) return;
    this._isClosed = true;
    this._decoder.close();
  }

  _take(data) {
    if (this._isClosed) {
      data.close();
      return;
    }
    if (data.sampleRate !== OPUS_CONFIG.sampleRate || data.numberOfFrames !== PACKET_FRAMES) {
      const got = `${data.numberOfFrames} frames at ${data.sampleRate} Hz`;
      data.close();
      this._fail(new ProtocolError(`the browser decoded a packet to ${got}`));
      return;
    }
    const samples = new Float32Array(PACKET_FRAMES);
    data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    data.close();
    const skipped = this._isFirst ? PRE_SKIP_48K : 0;
    this._isFirst = false;
    this._onSamples(samples.slice(skipped, skipped + this._expected.shift()));
  }

  _fail(error) {
    if (this._isClosed) return;
    this.close();
    this._onError(error);
  }
}

class PcmDecoder {
  constructor({ onSamples }) {
    this._onSamples = onSamples;
    this._isClosed = false;
  }

  push({ numSamples, payload }) {
    if (this._isClosed) return;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    const samples = new Float32Array(numSamples);
    for (let index = 0; index < numSamples; index += 1) {
      samples[index] = view.getInt16(2 * index, true) / 32767;
    }
    this._onSamples(samples);
  }

  async finish() {
    this.close();
  }

  close() {
    this._isClosed = true;
  }
}
