/**
 * Messages of docs/protocol.md: fields in, JSON text out; JSON text or bytes in, messages out.
 *
 * Mirrors daemon/wire/protocol.py; a test holds both to the document. Knows no socket and no audio device.
 */

export const PROTOCOL = "chatterboxd.v1";
export const PACKET_MS = 20;
/** Samples at 48 kHz that an Opus decoder drops at the start of each context. */
export const PRE_SKIP_48K = 312;
export const MAX_SEED = 2 ** 31 - 1;
export const HEADER_BYTES = 16;
const HEADER_VERSION = 1;

/** The format byte of an audio message's header. */
export const AUDIO_FORMATS = { opus: 1, pcm_s16le: 2 };

/** Fields of every message; a question mark says that it may be left out. */
export const CLIENT_MESSAGES = {
  open: [
    "context",
    "voice?",
    "format?",
    "bitrate?",
    "seed?",
    "language?",
    "options?",
    "max_buffer_delay_ms?",
    "max_lead_ms?",
    "lexicon?",
  ],
  text: ["context", "text"],
  flush: ["context"],
  end: ["context"],
  cancel: ["context", "played_ms?"],
  voice_upload: ["upload", "name", "bytes", "consent"],
  voice_list: [],
  voice_delete: ["voice"],
};

export const SERVER_MESSAGES = {
  begin: [
    "protocol",
    "server",
    "model",
    "sample_rate",
    "channels",
    "formats",
    "opus",
    "voices",
    "default_voice",
    "languages",
    "options",
    "slots",
    "limits",
    "word_times",
    "tags",
    "phonemes",
    "cloning?",
  ],
  opened: [
    "context",
    "number",
    "voice",
    "format",
    "seed",
    "language",
    "options",
    "max_buffer_delay_ms",
    "max_lead_ms",
    "bitrate?",
  ],
  segment: ["context", "segment", "text", "start", "end", "sample"],
  words: ["context", "words"],
  flushed: ["context", "flush", "end", "samples"],
  audio_end: ["context", "samples", "packets", "duration_ms", "segments", "text_chars"],
  cancelled: ["context", "text_spoken", "text_remaining", "played_ms", "samples_sent"],
  warning: ["context", "code", "message", "segment?"],
  error: ["code", "message", "hint", "final", "context?", "upload?"],
  voice_accepted: ["upload"],
  voice_progress: ["upload", "state", "ahead"],
  voice_ready: ["upload", "voice", "name", "seconds", "warnings", "expires_in_s?"],
  voices: ["voices"],
  voice_deleted: ["voice"],
};

/** Code of an `error` → whether it ends the context. */
export const ERRORS = {
  bad_json: false,
  bad_message: false,
  unknown_type: false,
  unknown_context: false,
  duplicate_context: false,
  too_many_contexts: false,
  unknown_voice: false,
  unknown_format: false,
  unknown_language: false,
  bad_option: false,
  text_too_long: false,
  text_after_end: false,
  draining: false,
  cloning_refused: false,
  no_consent: false,
  clip_too_large: false,
  too_many_voices: false,
  too_many_uploads: false,
  clip_late: false,
  clip_unfit: false,
  cloning_failed: false,
  segment_failed: false,
  busy: true,
  engine_failed: true,
};

/** What the daemon's close codes mean. */
export const CLOSE_CODES = {
  1001: "The daemon shut down.",
  1003: "The daemon takes text messages only.",
  1007: "A message was not UTF-8.",
  1008: "This page did not read for too long.",
  1009: "A message was too long.",
  1011: "The speech engine broke.",
};

export class ProtocolError extends Error {
  name = "ProtocolError";
}

/** A client message as JSON. Fields that are undefined are left out. */
export function toJson(type, fields) {
  const listed = CLIENT_MESSAGES[type];
  if (!listed) throw new ProtocolError(`there is no message type ${type}`);
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined && !listed.includes(name) && !listed.includes(`${name}?`)) {
      throw new ProtocolError(`${type} has no field ${name}`);
    }
  }
  const missing = listed.filter((name) => !name.endsWith("?") && fields[name] === undefined);
  if (missing.length) throw new ProtocolError(`${type} lacks ${missing.join(", ")}`);
  return JSON.stringify({ type, ...fields });
}

/** A message of the daemon, or null for a type that this version does not know. */
export function parseServerMessage(text) {
  const message = JSON.parse(text);
  const listed = Object.hasOwn(SERVER_MESSAGES, message.type) && SERVER_MESSAGES[message.type];
  if (!listed) return null;
  const missing = listed.filter((name) => !name.endsWith("?") && message[name] === undefined);
  if (missing.length) throw new ProtocolError(`${message.type} lacks ${missing.join(", ")}`);
  return message;
}

/** Section 3 of the document: a binary message → its header and payload. */
export function parseAudioMessage(buffer) {
  if (buffer.byteLength < HEADER_BYTES) {
    throw new ProtocolError(`an audio message of ${buffer.byteLength} bytes`);
  }
  const view = new DataView(buffer);
  const version = view.getUint8(0);
  const format = Object.keys(AUDIO_FORMATS).find((key) => AUDIO_FORMATS[key] === view.getUint8(1));
  if (version !== HEADER_VERSION || format === undefined) {
    throw new ProtocolError(`audio header ${version}, ${view.getUint8(1)} is not known`);
  }
  return {
    format,
    number: view.getUint32(4, true),
    sequence: view.getUint32(8, true),
    numSamples: view.getUint32(12, true),
    payload: new Uint8Array(buffer, HEADER_BYTES),
  };
}
