// The slider of canvas.js, whose variables it shares: where it stands, what happens when it moves and when it rests, and
// the start of the page, which puts it where this tab had it.
const REST_MS = 150; // a slider that does not move for so long is at rest
const RECENT_MS = 1000; // a server that has sent something so recently is there

function rest() {
  const frame = frames.get(key(position()));
  const isDrawn = picture.isDrawn || (picture.hasPhotograph && gaps.length > 0); // now or as soon as it is fetched
  const isGood = isDrawn && interpolationError(gaps, position()) < seen;
  // Else it is here, or on its way, or would look the same, or the server has not heard yet that the slider goes on.
  const missing = (!frame || frame.failed) && !isGood && position() <= highest;
  // Back on a finished frame, the server gets a message while it makes another one, which is not wanted any more.
  if (edit > 0 && (missing || requested !== null)) send(position());
  requested = missing ? key(position()) : null;
  if (frame && frame.failed) fetchFrame(frame);
  find(".spoken").textContent = describe(nearest(position()));
}

// Send where the slider rests: the newest position, once the server answers.
async function send(strength) {
  const isSending = unsent !== null;
  unsent = strength;
  if (isSending) return;
  if (!navigator.onLine || performance.now() - lastMessage > RECENT_MS) await reached(sayConnection);
  trigger("commit", { edit: edit, strength: unsent });
  unsent = null;
}

// Have the kept edit again: it is still open on the server, or is opened once more with the kept photograph.
async function reopen() {
  const before = kept().edit;
  if (!before || isReopening) return;
  isReopening = true;
  await reached(sayConnection);
  const photograph = await photographOnServer(before.inputs.photograph);
  trigger("reopen", { key: before.key, ...before.inputs, ...(photograph && { photograph: photograph.path }) });
}

// Put the slider where a strength is, as if somebody had drawn it there.
function move(target) {
  strength = Math.min(scale.highest, Math.max(0, roundTo(target, 4)));
  place();
  moved();
  settle();
}

// Where the strength is on the slider, which may have another scale than before.
function place() {
  slider.max = scale.highest;
  slider.value = scale.positionOf(strength);
  strip.place((each) => scale.shareOf(each));
}

// Where the slider stands when the next edit begins.
function placeAt(target) {
  strength = Math.min(scale.highest, target);
  place();
  keep({ strength });
}

function moved() {
  clearTimeout(restTimer);
  keep({ strength });
  show();
}

function settle() {
  clearTimeout(restTimer);
  restTimer = setTimeout(rest, REST_MS);
}

const KEYS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 2, PageDown: -2 };
slider.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  let target = { Home: 0, End: scale.highest }[event.key];
  if (event.key in KEYS) target = Number(slider.value) + KEYS[event.key] * (event.shiftKey ? 0.01 : 0.05);
  if (target === undefined) return;
  event.preventDefault();
  move(scale.strengthAt(Math.min(scale.highest, Math.max(0, target))));
});
slider.addEventListener("input", () => {
  strength = scale.strengthAt(Number(slider.value));
  moved();
});
slider.addEventListener("change", settle);

// Called once, after the tools are there.
function start() {
  strength = kept().strength ?? strength;
  place();
  reopen(); // where this tab has kept an edit
  watch("value", receive);
  receive();
  watchServer(sayConnection);
}
