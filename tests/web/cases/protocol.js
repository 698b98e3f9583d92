/** web_client/protocol.js: refuses what the document does not list, reads the header's bytes. */

import { parseAudioMessage, parseServerMessage, toJson } from "/protocol.js";

function equal(actual, expected) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
}

function refuses(act) {
  try {
    act();
  } catch (error) {
    if (error.name === "ProtocolError") return;
    throw error;
  }
  throw new Error("it was taken");
}

export const cases = {
  "fields that are undefined are left out"() {
    equal(JSON.parse(toJson("open", { context: "a", voice: undefined, seed: 0 })), {
      type: "open",
      context: "a",
      seed: 0,
    });
  },

  "an unknown type, an unknown field and a missing field are refused"() {
    refuses(() => toJson("sing", { context: "a" }));
    refuses(() => toJson("text", { context: "a", text: "b", loud: true }));
    refuses(() => toJson("text", { context: "a" }));
  },

  "a message type of a later version is passed over, a field of one is kept"() {
    equal(parseServerMessage('{"type":"applause"}'), null);
    equal(parseServerMessage('{"type":"constructor"}'), null);
    equal(parseServerMessage('{"type":"warning","context":"a","code":"c","message":"m","new":1}').new, 1);
    refuses(() => parseServerMessage('{"type":"warning","context":"a"}'));
  },

  "the header is read by its bytes"() {
    const bytes = Uint8Array.of(1, 2, 0, 0, 2, 0, 0, 0, 4, 3, 2, 1, 0xe0, 1, 0, 0, 0x78, 0x79);
    const { payload, ...header } = parseAudioMessage(bytes.buffer);
    equal(header, { format: "pcm_s16le", number: 2, sequence: 0x01020304, numSamples: 480 });
    equal(Array.from(payload), [0x78, 0x79]);
  },

  "a header of a later version, an unknown format and a short message are refused"() {
    refuses(() => parseAudioMessage(new ArrayBuffer(15)));
    refuses(() => parseAudioMessage(Uint8Array.of(2, 1, ...new Array(14).fill(0)).buffer));
    refuses(() => parseAudioMessage(Uint8Array.of(1, 9, ...new Array(14).fill(0)).buffer));
  },
};
