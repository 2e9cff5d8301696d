// Client side of Filmstrip. Given by gradio: element, props, trigger, watch.
// Frames arrive over time (props.value), are fetched and decoded once, and are then swapped in as they are:
// moving the slider over finished frames asks nothing of the server or the network.
const REST_MS = 150; // a hand that pauses this long has come to rest
const find = (selector) => element.querySelector(selector);
const stage = find(".stage");
const slider = find("input[type=range]");
const picture = find(".picture");
const strip = find(".strip");
const ticks = find(".ticks");

let edit = 0;
let frames = new Map(); // key -> {strength, image, ready}
let shown = null;
let restTimer = 0;
let settled = true; // whether an edit, its strip full, has been asked for the strength under the hand

const key = (strength) => Number(strength).toFixed(4);
const say = (strength) => Number(strength).toFixed(2);
const hand = () => Number(slider.value);

function nearest(strength) {
  let best = null;
  for (const frame of frames.values()) {
    if (!frame.ready) continue;
    const closer = best && Math.abs(frame.strength - strength) - Math.abs(best.strength - strength);
    if (best === null || closer < -1e-9 || (Math.abs(closer) <= 1e-9 && frame.strength < best.strength)) best = frame;
  }
  return best;
}

function describe(frame) {
  const strength = hand();
  if (frame === null) return "Strength " + say(strength) + ", no frame yet";
  if (key(frame.strength) !== key(strength))
    return "Strength " + say(strength) + " · showing the nearest finished, " + say(frame.strength);
  return "Strength " + say(strength) + (frame.strength === 0 ? " · exact, the untouched picture" : " · exact");
}

function show() {
  const frame = nearest(hand());
  const isNew = frame !== null && frame !== shown;
  if (isNew) picture.replaceChildren(frame.image);
  shown = frame;
  const exact = frame !== null && key(frame.strength) === key(hand());
  const text = describe(frame);
  find(".label").textContent = text;
  slider.setAttribute("aria-valuetext", text);
  slider.style.setProperty("--done", hand());
  stage.dataset.strength = key(hand());
  stage.dataset.shown = frame === null ? "" : key(frame.strength);
  stage.dataset.exact = exact;
  for (const thumb of strip.children) {
    const current = frame !== null && thumb.dataset.strength === key(frame.strength);
    if (current) thumb.setAttribute("aria-current", "true");
    else thumb.removeAttribute("aria-current");
    if (current && isNew) strip.scrollLeft = thumb.offsetLeft - strip.offsetLeft - (strip.clientWidth - thumb.clientWidth) / 2;
  }
}

function rest() {
  const frame = frames.get(key(hand()));
  if (edit > 0 && !(frame && frame.ready)) trigger("commit", { edit: edit, strength: hand() });
  find(".spoken").textContent = describe(nearest(hand()));
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

function begin(value) {
  edit = value.edit;
  settled = false;
  frames = new Map();
  shown = null; // the picture stays until the new edit's first frame replaces it
  slider.disabled = false;
  stage.dataset.state = "open";
  stage.dataset.edit = edit;
  stage.dataset.frames = 0;
  clearTimeout(restTimer);
  ticks.replaceChildren();
  strip.replaceChildren(...value.strengths.map(thumbFor));
}

function arrived(frame, serial) {
  if (serial !== edit) return;
  frame.ready = true;
  stage.dataset.frames = [...frames.values()].filter((each) => each.ready).length;
  const tick = ticks.appendChild(document.createElement("i"));
  tick.style.setProperty("--at", frame.strength);
  const thumb = [...strip.children].find((each) => each.dataset.strength === key(frame.strength));
  if (thumb) {
    thumb.prepend(frame.image.cloneNode());
    thumb.classList.add("ready");
  }
  show();
  if (key(frame.strength) === key(hand())) find(".spoken").textContent = describe(frame);
}

function add(news, instruction) {
  if (frames.has(key(news.strength))) return;
  const image = new Image();
  const frame = { strength: news.strength, image: image, ready: false };
  const serial = edit;
  frames.set(key(news.strength), frame);
  image.alt = instruction + ", strength " + say(news.strength);
  image.src = news.file.url;
  image.decode().then(
    () => arrived(frame, serial),
    () => frames.get(key(news.strength)) === frame && frames.delete(key(news.strength)), // a later message offers it again
  );
}

function tellBusy(busy) {
  stage.toggleAttribute("data-busy", Boolean(busy));
  if (!busy) return;
  find(".busy-text").textContent = busy.text;
  const known = typeof busy.fraction === "number";
  find(".bar").classList.toggle("unknown", !known);
  find(".bar i").style.width = known ? 100 * busy.fraction + "%" : "";
}

function settle(value) {
  if (settled || value.busy) return;
  settled = true;
  if (!value.strengths.some((strength) => key(strength) === key(hand()))) rest();
}

function receive() {
  const value = props.value;
  if (!value || value.edit < edit) return;
  if (value.edit > edit) begin(value);
  for (const news of value.frames) add(news, value.instruction);
  tellBusy(value.busy);
  if (edit === 0) return;
  show();
  settle(value);
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
  show();
});
slider.addEventListener("change", () => {
  clearTimeout(restTimer);
  restTimer = setTimeout(rest, REST_MS);
});
watch("value", receive);
receive();
