// Client side of Filmstrip. Given by gradio: element, props, trigger, watch; by keep.js and reach.js: their functions.
// Frames arrive over time (props.value), are fetched and decoded once, and are then swapped in as they are:
// moving the slider over finished frames asks nothing of the server or the network.
const REST_MS = 150; // a hand that pauses this long has come to rest
const HEARD_MS = 1000; // a server that has just told something is there
const SAID_MS = 12000; // a sentence about the connection stays so long
const find = (selector) => element.querySelector(selector);
const stage = find(".stage");
const slider = find("input[type=range]");
const picture = find(".picture");
const strip = find(".strip");
const ticks = find(".ticks");

let edit = 0;
let frames = new Map(); // slot -> {strength, image, url, ready, failed, preview}
let shown = null;
let restTimer = 0;
let heard = -Infinity; // when the server last told something, ms
let forget = 0; // the timer of a sentence
let isAsking = false; // for this edit, once more
let resting = null; // the strength that is told to the server once that answers
let asked = null; // key of the strength that the server was asked for and whose exact frame is not here yet

const key = (strength) => Number(strength).toFixed(4);
const slot = (frame) => key(frame.strength) + (frame.preview ? " preview" : "");
const finished = (strength) => Boolean((frames.get(key(strength)) || {}).ready);
const say = (strength) => Number(strength).toFixed(2);
const hand = () => Number(slider.value);

function nearest(strength) {
  let best = null;
  for (const frame of frames.values()) {
    if (!frame.ready || (frame.preview && key(frame.strength) !== key(strength))) continue;
    const closer = best && Math.abs(frame.strength - strength) - Math.abs(best.strength - strength);
    if (best === null || closer < -1e-9 || (Math.abs(closer) <= 1e-9 && frame.strength < best.strength)) best = frame;
  }
  return best;
}

function describe(frame) {
  const strength = hand();
  if (frame === null) return "Strength " + say(strength) + ", no frame yet";
  if (frame.preview) return "Strength " + say(strength) + " · preview, the exact frame follows";
  if (key(frame.strength) !== key(strength))
    return "Strength " + say(strength) + " · showing the nearest finished, " + say(frame.strength);
  return "Strength " + say(strength) + (frame.strength === 0 ? " · the untouched picture" : "");
}

function show() {
  const frame = nearest(hand());
  const isNew = frame !== null && frame !== shown;
  if (isNew) picture.replaceChildren(frame.image);
  shown = frame;
  const preview = frame !== null && frame.preview;
  const exact = frame !== null && !preview && key(frame.strength) === key(hand());
  const text = describe(frame);
  find(".label").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  slider.style.setProperty("--done", hand());
  stage.dataset.strength = key(hand());
  stage.dataset.shown = frame === null ? "" : key(frame.strength);
  stage.dataset.exact = exact;
  stage.toggleAttribute("data-preview", preview);
  for (const thumb of strip.children) {
    const current = frame !== null && thumb.dataset.strength === key(frame.strength);
    if (current) thumb.setAttribute("aria-current", "true");
    else thumb.removeAttribute("aria-current");
    if (current && isNew) strip.scrollLeft = thumb.offsetLeft - strip.offsetLeft - (strip.clientWidth - thumb.clientWidth) / 2;
  }
}

function rest() {
  const frame = frames.get(key(hand()));
  const missing = !frame || frame.failed; // else it is here, or on its way
  // Back on a finished frame, the server still hears of it while it makes another one, which nobody waits for now.
  if (edit > 0 && (missing || asked !== null)) tell(hand());
  asked = missing ? key(hand()) : null;
  if (frame && frame.failed) fetchFrame(frame);
  find(".spoken").textContent = describe(nearest(hand()));
}

// Tell the server where the slider rests: the newest position, once the server answers.
async function tell(strength) {
  const isTelling = resting !== null;
  resting = strength;
  if (isTelling) return;
  if (!navigator.onLine || performance.now() - heard > HEARD_MS) await reached(sayConnection);
  trigger("commit", { edit: edit, strength: resting });
  resting = null;
}

function sayConnection(sentence) {
  const place = find(".connection");
  if (place.textContent !== sentence) place.textContent = sentence;
  place.hidden = false;
  clearTimeout(forget);
  if (sentence !== GONE) forget = setTimeout(() => (place.hidden = true), SAID_MS);
}

// Have the kept edit again: it is still open on the server, or is opened once more with the kept photograph.
async function askAgain() {
  const before = kept().edit;
  if (!before || isAsking) return;
  isAsking = true;
  await reached(sayConnection);
  const photograph = await photographOnServer(before.inputs.photograph);
  trigger("reopen", { key: before.key, ...before.inputs, ...(photograph && { photograph: photograph.path }) });
}

function move(strength) {
  slider.value = Math.min(1, Math.max(0, strength)).toFixed(2);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  slider.dispatchEvent(new Event("change", { bubbles: true }));
}

function thumbFor(strength) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "thumb";
  button.dataset.strength = key(strength);
  button.setAttribute("aria-label", "Strength " + say(strength));
  button.appendChild(document.createElement("span")).textContent = say(strength);
  button.addEventListener("click", () => move(strength));
  return button;
}

// A small screen holds picture and slider, if the stage begins at its top; elsewhere it shows the inputs.
function toTheStage() {
  const top = stage.getBoundingClientRect().top;
  if (top < 0 || top > 60) stage.scrollIntoView({ block: "start" });
}

function begin(value) {
  edit = value.edit;
  if (value.inputs) keep({ edit: { key: value.key, inputs: value.inputs } });
  isAsking = false;
  asked = null;
  frames = new Map();
  shown = null; // the picture stays until the new edit's first frame replaces it
  slider.disabled = false;
  stage.dataset.state = "open";
  stage.dataset.edit = edit;
  stage.dataset.frames = 0;
  find(".caption").textContent = find(".caption").title = value.caption;
  if (matchMedia("(max-width: 640px), (max-height: 500px)").matches) toTheStage();
  clearTimeout(restTimer);
  ticks.replaceChildren();
  strip.replaceChildren(...value.strengths.map(thumbFor));
}

function arrived(frame, serial) {
  if (serial !== edit || (frame.preview && finished(frame.strength))) return;
  frame.ready = true;
  if (!frame.preview) enroll(frame);
  show();
  if (key(frame.strength) === key(hand())) find(".spoken").textContent = describe(frame);
}

function enroll(frame) {
  frames.delete(slot({ strength: frame.strength, preview: true }));
  if (asked === key(frame.strength)) asked = null;
  stage.dataset.frames = [...frames.values()].filter((each) => each.ready && !each.preview).length;
  const tick = ticks.appendChild(document.createElement("i"));
  tick.style.setProperty("--at", frame.strength);
  const thumb = [...strip.children].find((each) => each.dataset.strength === key(frame.strength));
  if (thumb) {
    thumb.prepend(frame.image.cloneNode());
    thumb.classList.add("ready");
  }
}

function add(news, instruction) {
  if (frames.has(slot(news)) || (news.preview && finished(news.strength))) return;
  const image = new Image();
  const frame = { strength: news.strength, image: image, url: news.file.url, ready: false, preview: news.preview };
  frames.set(slot(frame), frame);
  image.alt = instruction + ", strength " + say(news.strength) + (frame.preview ? ", preview" : "");
  fetchFrame(frame);
}

async function fetchFrame(frame) {
  const serial = edit;
  frame.failed = false;
  const isWanted = () => frames.get(slot(frame)) === frame;
  if (await decoded(frame.image, frame.url, isWanted)) arrived(frame, serial);
  else frame.failed = true; // a click on its thumb, or a rest there, tries again
}

function tellBusy(busy) {
  stage.toggleAttribute("data-busy", Boolean(busy));
  if (!busy) return;
  find(".busy-text").textContent = busy.text;
  const known = typeof busy.fraction === "number";
  find(".bar").classList.toggle("unknown", !known);
  find(".bar i").style.width = known ? 100 * busy.fraction + "%" : "";
}

function receive() {
  const value = props.value;
  heard = performance.now();
  if (!value || value.edit < edit) return;
  if (isAsking && value.edit > 0 && !value.key) return; // what the page opens with, before the kept edit is back
  if (value.said) sayConnection(value.said);
  if (value.is_lost) return void askAgain();
  const isNew = value.edit > edit;
  if (isNew) begin(value);
  for (const news of value.frames) add(news, value.instruction);
  tellBusy(value.busy);
  if (edit === 0) return;
  show();
  if (isNew) rest(); // the frame under the hand goes before the strip
}

const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 2, PageDown: -2 };
slider.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  let target = null;
  if (event.key === "Home") target = 0;
  else if (event.key === "End") target = 1;
  else if (event.key in KEYS) target = hand() + KEYS[event.key] * (event.shiftKey ? 0.01 : 0.05);
  if (target === null) return;
  event.preventDefault();
  move(target);
});
slider.addEventListener("input", () => {
  clearTimeout(restTimer);
  keep({ strength: hand() });
  show();
});
slider.addEventListener("change", () => {
  clearTimeout(restTimer);
  restTimer = setTimeout(rest, REST_MS);
});
slider.value = kept().strength ?? slider.value;
askAgain(); // where this tab has kept an edit
watch("value", receive);
receive();
watchServer(sayConnection);
