/**
 * The page: clicks and keys in, words to the player and pictures of what it tells out.
 *
 * Knows no audio and no message of the protocol but `begin`.
 */

import { Player } from "./chatterbox-player.js";
import { LiveTyping, assistantWriting } from "./composer.js";
import { Notices } from "./notices.js";
import { Palette } from "./palette.js";
import { OwnVoices } from "./own-voices.js";
import { Reading } from "./reading.js";
import { Scope } from "./scope.js";
import { Settings } from "./settings.js";
import { Timeline, show } from "./timeline.js";
import { VoiceStudio } from "./voice-studio.js";

const BUFFER_SHOWN_EVERY_MS = 120;
const TOKEN_KEY = "chatterboxd-token";
const HINTS = {
  enter: "Enter speaks, Shift+Enter begins a new line.",
  typing: "Each word goes out as soon as it is complete.",
};
const PILLS = { connecting: "Connecting", ready: "Ready", waiting: "Not connected", closed: "Closed" };

const find = (id) => document.getElementById(id);
const textBox = find("text");
const notices = new Notices(find, {
  onRetry: () => player.connection.retry(),
  onToken: (token) => {
    sessionStorage.setItem(TOKEN_KEY, token);
    player.setToken(token);
  },
});
const settings = new Settings({
  form: find("settings-form"),
  note: find("settings-note"),
  onFormat: (format) => player.setFormat(format),
});
const palette = new Palette({ box: find("palette"), textBox });
const reading = new Reading(find("reading"));
const scope = new Scope(find("scope"));
const timeline = new Timeline({
  drawing: find("timeline"),
  text: find("timeline-text"),
  onChange: showFigures,
});
const player = new Player({
  token: sessionStorage.getItem(TOKEN_KEY) ?? undefined,
  format: settings.format,
});
const typing = new LiveTyping(() => say());
const ownVoices = new OwnVoices(player);
new VoiceStudio(find, ownVoices, { onReady: ({ voice }) => awaitVoice(voice) });

// --- speaking -----------------------------------------------------------------------------------

/** `text` as for `Player.speak`. */
function say(text) {
  notices.clear();
  return player.speak(text, settings.forUtterance());
}

function sayTextBox() {
  if (!player.isReady || !textBox.value.trim()) return;
  typing.skip(textBox.value);
  say(textBox.value);
}

function stop() {
  typing.skip(textBox.value);
  player.cancel();
}

find("speak").addEventListener("click", sayTextBox);
find("stop").addEventListener("click", stop);
find("demo").addEventListener("click", () => say(assistantWriting()));

textBox.addEventListener("keydown", (event) => {
  const isEnter = event.key === "Enter" && !event.isComposing && !event.shiftKey;
  if (isEnter && (settings.mode === "enter" || event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    sayTextBox();
  }
});
textBox.addEventListener("input", (event) => {
  if (settings.mode !== "typing" || event.isComposing || !player.isReady) return;
  player.resume();
  typing.take(textBox.value);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && player.current) stop();
});
// The first gesture of any kind lets sound out, so that the first word need not wait for it.
for (const type of ["pointerdown", "keydown"]) {
  document.addEventListener(type, () => player.resume(), { once: true });
}

// --- voices of one's own ------------------------------------------------------------------------

ownVoices.addEventListener("voices", ({ detail }) => settings.showOwnVoices(detail.voices));

/** Choose a new voice as soon as it is in the list. */
function awaitVoice(voice) {
  const choose = ({ detail }) => {
    if (!detail.voices.some((listed) => listed.voice === voice)) return;
    ownVoices.removeEventListener("voices", choose);
    settings.chooseVoice(voice);
  };
  ownVoices.addEventListener("voices", choose);
}

// --- modes --------------------------------------------------------------------------------------

function setMode(mode) {
  settings.mode = mode;
  typing.skip(textBox.value);
  find("hint").textContent = HINTS[mode];
}

for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.checked = radio.value === settings.mode;
  radio.addEventListener("change", () => setMode(radio.value));
}
setMode(settings.mode);

// --- what the player tells ----------------------------------------------------------------------

function showState({ state }) {
  const pill = find("connection");
  pill.textContent = PILLS[state];
  pill.dataset.state = state;
  for (const id of ["speak", "demo"]) find(id).disabled = !player.isReady;
}

let bufferShownAt = -Infinity;

function showBuffer({ bufferedMs, thresholdMs }) {
  const now = performance.now();
  if (bufferedMs > 0 && now - bufferShownAt < BUFFER_SHOWN_EVERY_MS) return;
  bufferShownAt = now;
  const { lead_ms_default: mostMs } = player.offer.limits;
  const gauge = find("gauge");
  const share = (ms) => `${Math.min(100, (100 * ms) / mostMs)}%`;
  gauge.setAttribute("aria-valuemax", mostMs);
  gauge.setAttribute("aria-valuenow", Math.round(bufferedMs));
  gauge.setAttribute("aria-valuetext", show(bufferedMs));
  find("gauge-fill").style.width = share(bufferedMs);
  find("gauge-value").textContent = show(bufferedMs);
  if (thresholdMs === undefined) return;
  find("gauge-mark").style.left = share(thresholdMs);
  find("figure-threshold").textContent = show(thresholdMs);
}

function showFigures({ firstSoundMs, realTimeFactor, underruns }) {
  find("figure-first").textContent = firstSoundMs === null ? "–" : show(firstSoundMs);
  find("figure-rtf").textContent = realTimeFactor === null ? "–" : realTimeFactor.toFixed(2);
  find("figure-underruns").textContent = underruns.length;
}

function showFormat({ format, whyNotOpus }) {
  const name = format === "opus" ? "Opus, decoded by this browser" : "PCM, not compressed";
  find("format").textContent = whyNotOpus ? `${name}: ${whyNotOpus}` : name;
}

function showHeldBack() {
  if (player.current && player.isHeldBack) notices.heldBack(() => player.resume());
  else if (find("notice-title").textContent.startsWith("Your browser")) notices.clear();
}

const ENDINGS = { ended: "Said to the end", cancelled: "Stopped", lost: "The connection broke" };

player.addEventListener("state", ({ detail }) => {
  showState(detail);
  if (detail.state === "waiting") notices.waiting(detail);
  else if (detail.state === "ready") notices.clear();
});
player.addEventListener("begin", ({ detail }) => {
  settings.show(detail);
  palette.show(detail);
  find("estimated").hidden = detail.word_times === "exact";
  find("daemon").textContent =
    `${detail.model} · ${detail.slots} voices at a time · ${detail.protocol} · ${detail.server}`;
});
player.addEventListener("format", ({ detail }) => showFormat(detail));
player.addEventListener("held", showHeldBack);
player.addEventListener("utterance", ({ detail }) => {
  const { utterance } = detail;
  reading.follow(utterance, player.offer.sample_rate);
  scope.follow(utterance);
  timeline.follow(utterance);
  find("stop").disabled = false;
  find("progress").textContent = "";
  showFigures({ firstSoundMs: null, realTimeFactor: null, underruns: [] });
});
player.addEventListener("level", ({ detail }) => showBuffer(detail));
player.addEventListener("packet", showHeldBackOnce);
player.addEventListener("refused", ({ detail }) => notices.failed(detail));
player.addEventListener("complaint", ({ detail }) => notices.failed(detail));
player.addEventListener("warning", ({ detail }) => {
  find("progress").textContent = `Left out: ${detail.message}`;
});
player.addEventListener("close", ({ detail }) => {
  if (detail.reason === "failed") notices.failed(detail);
  if (player.current && player.current !== detail.utterance) return; // another one speaks already
  find("stop").disabled = true;
  find("progress").textContent = ENDINGS[detail.reason] ?? "";
  showBuffer({ bufferedMs: 0 });
});

/** Audio is here and the browser still plays nothing: say so. */
function showHeldBackOnce({ detail }) {
  if (detail.utterance.receivedMs < 500 && player.isHeldBack) showHeldBack();
}

player.ready.catch((error) => {
  if (error.name !== "CannotPlay") throw error;
  showState({ state: "closed" });
  notices.impossible(error.code);
});

/** For tests and for the console. */
globalThis.chatterbox = { player };
