// Client side of Canvas. Given by gradio: element, props, trigger, watch; by keep.js and picture.js: their functions.
// Frames arrive over time (props.value) and are fetched once, as transfers where the browser can draw, as pictures
// elsewhere: moving the slider sends nothing to the server or the network.
const SENTENCE_MS = 12000; // a sentence about the connection stays so long
const find = (selector) => element.querySelector(selector);
const stage = find(".stage");
const slider = find("input[type=range]");

const scale = new Scale();
let strength = 1; // at the slider
let edit = 0;
let frames = new Map(); // slot -> {strength, image, hasImage, url, transfer, ready, failed, preview}
let shown = null; // the frame in the picture
let gaps = []; // {low, high, error}: what may be interpolated
let seen = 0; // levels of error that are not seen
let highest = 1; // strength that the server renders
let caption = ""; // what the edit does
let hasAsked = false; // for what the browser needs of this edit beyond its frames
let restTimer = 0;
let sentenceTimer = 0;
let said = ""; // serial of the edit, and the sentence of its newest message
let lastMessage = -Infinity; // when the server last sent something, ms
let isReopening = false; // the kept edit is on its way
let unsent = null; // the strength that is sent to the server once that answers
let requested = null; // key of the strength that was sent and whose exact frame is not here yet

const key = (strength) => Number(strength).toFixed(4);
const slot = (frame) => key(frame.strength) + (frame.preview ? " preview" : "");
const finished = (strength) => Boolean((frames.get(key(strength)) || {}).ready);
const rounded = strengthText;
const position = () => strength; // the strength at the slider
const picture = new Picture(find(".picture"), {
  askTile: (box) => trigger("tile", { edit: edit, box: box }),
  onPlace: () => tell("place"),
  onPhotograph: () => tell("photograph"),
});
const strip = new Strip(find(".strip"), find(".ticks"), move);
const number = new StrengthInput(find(".number"), scale, { move, say: sayConnection });
const tools = new Toolbar(find(".tools"), find(".panels"));
stage.picture = picture; // for extensions and tests

// Events of the stage, for tools: "edit" (a new edit begins) and "message" with the server's value, "shown" after every
// change of what is seen, "photograph" when that of the newest edit is about to be drawn, "place" when the picture is zoomed, moved or another size.
const tell = (name, detail) => stage.dispatchEvent(new CustomEvent(name, { detail }));

// ---- drawing

function nearest(strength) {
  let best = null;
  for (const frame of frames.values()) {
    const canBeShown = frame.hasImage || (picture.isDrawn && frame.ready);
    if (!canBeShown || (frame.preview && key(frame.strength) !== key(strength))) continue;
    const closer = best && Math.abs(frame.strength - strength) - Math.abs(best.strength - strength);
    if (best === null || closer < -1e-9 || (Math.abs(closer) <= 1e-9 && frame.strength < best.strength)) best = frame;
  }
  return best;
}

function describe(frame, strength = "Strength " + rounded(position())) {
  const text = strength + (picture.isPainted ? " · painted" : "");
  if (picture.isDrawn && chain.state === "composed") return text + " · composed";
  if (picture.isDrawn && position() === 0) return text + (chain.state ? " · computed" : " · the untouched picture");
  if (picture.isDrawn) return text + (finished(position()) ? chain.state && " · " + chain.state : " · interpolated");
  if (frame === null) return text + ", no frame yet";
  if (frame.preview) return text + " · preview, the exact frame follows";
  if (key(frame.strength) !== key(position()))
    return text + " · showing the nearest finished, " + rounded(frame.strength);
  return text + (frame.strength === 0 ? " · the untouched picture" : "");
}

function show() {
  const frame = nearest(position());
  const isDrawn = picture.isDrawn;
  const preview = !isDrawn && frame !== null && frame.preview;
  const text = describe(frame);
  find(".says").textContent = describe(frame, "");
  number.show(position());
  if (isDrawn) picture.show(position(), caption + ", " + text.toLowerCase());
  else if (frame !== null && frame !== shown) picture.showFrame(frame.image);
  shown = frame;
  slider.setAttribute("aria-valuetext", text);
  slider.style.setProperty("--done", scale.shareOf(position()));
  stage.dataset.strength = key(position());
  stage.dataset.shown = isDrawn ? stage.dataset.strength : frame === null ? "" : key(frame.strength);
  stage.dataset.exact = stage.dataset.shown === stage.dataset.strength && finished(position());
  stage.toggleAttribute("data-drawn", isDrawn);
  stage.toggleAttribute("data-preview", preview);
  strip.mark(frame === null ? null : frame.strength);
  tell("shown");
}

function drawThumbs(all = false) {
  if (picture.isDrawn) strip.draw((strength, side) => picture.thumb(strength, side), all);
}

function showBusy(busy) {
  stage.toggleAttribute("data-busy", Boolean(busy));
  if (!busy) return;
  find(".busy-text").textContent = busy.text;
  const known = typeof busy.fraction === "number";
  find(".bar").classList.toggle("unknown", !known);
  find(".bar i").style.width = known ? 100 * busy.fraction + "%" : "";
}

function sayConnection(sentence) {
  const place = find(".connection");
  if (place.textContent !== sentence) place.textContent = sentence;
  place.hidden = false;
  clearTimeout(sentenceTimer);
  if (sentence !== GONE) sentenceTimer = setTimeout(() => (place.hidden = true), SENTENCE_MS);
}

// Every message of an edit carries its sentence; the page shows it once.
function sayOnce(value) {
  const before = said;
  said = value.edit + value.said;
  if (value.said && (value.is_lost || said !== before)) sayConnection(value.said);
}

// ---- frames and messages of the server

function receive() {
  const value = props.value;
  lastMessage = performance.now();
  if (!value || (value.edit > 0 && value.edit < edit)) return;
  if (isReopening && value.edit > 0 && !value.key) return; // what the page opens with, before the kept edit is back
  sayOnce(value);
  if (value.is_lost) return void reopen();
  const isNew = value.edit > edit;
  if (isNew) begin(value);
  const goesFurther = value.highest > highest;
  [gaps, seen, highest] = [value.gaps, value.seen, value.highest];
  if (value.photograph) picture.usePhotograph(value.photograph.url, value.size).then(() => (show(), drawThumbs()));
  for (const message of value.frames) add(message, value.inputs.instruction);
  if (value.tile) picture.useTile(value.tile);
  showBusy(value.busy);
  if (edit === 0) return;
  tell("message", value);
  show();
  if (isNew || goesFurther) rest(); // the frame at the slider goes before the strip
  if (!value.busy && !hasAsked) askForMore(value);
}

// A browser that cannot draw needs every frame of the strip. One that can needs the transfers of what the page opens
// with, as soon as somebody comes near: who only looks costs the server nothing.
function askForMore(value) {
  const isWhole = value.strengths.every((strength) => frames.has(key(strength)));
  if (picture.canDraw ? value.photograph : isWhole) return;
  hasAsked = true;
  if (!picture.canDraw) return void trigger("complete", { edit: edit });
  const nearby = new AbortController();
  const draw = (serial) => (nearby.abort(), serial === edit && trigger("draw", { edit: serial }));
  for (const event of ["pointerover", "focusin"]) stage.addEventListener(event, draw.bind(null, edit), nearby);
}

function begin(value) {
  edit = value.edit;
  if (value.inputs.photograph) keep({ edit: { key: value.key, inputs: value.inputs } });
  isReopening = false;
  requested = null;
  frames = new Map();
  shown = null; // the picture stays until the new edit's first frame replaces it
  picture.begin();
  hasAsked = false;
  caption = value.inputs.instruction;
  slider.disabled = find(".number").disabled = false;
  stage.dataset.state = "open";
  stage.dataset.edit = edit;
  stage.dataset.frames = 0;
  find(".caption").textContent = find(".caption").title = value.caption;
  clearTimeout(restTimer);
  strip.begin(value.strengths);
  // A small screen holds picture and slider, if the stage begins at its top; elsewhere it shows the inputs.
  const top = stage.getBoundingClientRect().top;
  const isSmall = matchMedia("(max-width: 640px), (max-height: 500px)").matches;
  if (isSmall && (top < 0 || top > 60)) stage.scrollIntoView({ block: "start" });
  tell("edit", value);
}

function add({ strength, file, transfer, preview }, instruction) {
  const frame = { strength, preview, url: file.url, image: new Image(), hasImage: false, ready: false, failed: false };
  frame.transfer = picture.hasPhotograph && transfer ? transfer.url : null;
  const known = frames.get(slot(frame));
  if (known && frame.transfer && !known.transfer) {
    known.transfer = frame.transfer;
    picture.useTransfer(strength, frame.transfer).then(() => (show(), drawThumbs()));
  }
  if (known || (preview && (finished(strength) || picture.isDrawn))) return;
  frames.set(slot(frame), frame);
  frame.image.alt = instruction + ", strength " + rounded(strength) + (preview ? ", preview" : "");
  fetchFrame(frame);
}

// Fetch the transfer of a frame where the browser draws, else its picture. The untouched photograph needs neither.
async function fetchFrame(frame) {
  const serial = edit;
  frame.failed = false;
  const isWanted = () => frames.get(slot(frame)) === frame;
  let isHere = picture.hasPhotograph && frame.strength === 0;
  if (frame.transfer) isHere = await picture.useTransfer(frame.strength, frame.transfer);
  else if (!isHere) isHere = frame.hasImage = await decoded(frame.image, frame.url, isWanted);
  if (!isHere) frame.failed = true; // a click on its thumb, or a rest there, tries again
  if (!isHere || serial !== edit || (frame.preview && finished(frame.strength))) return;
  frame.ready = true;
  if (!frame.preview) enroll(frame);
  show();
  drawThumbs();
  if (key(frame.strength) === key(position())) find(".spoken").textContent = describe(frame);
}

function enroll(frame) {
  frames.delete(slot({ strength: frame.strength, preview: true }));
  if (requested === key(frame.strength)) requested = null;
  stage.dataset.frames = [...frames.values()].filter((each) => each.ready && !each.preview).length;
  strip.add(frame.strength, frame.hasImage ? frame.image : null);
}
