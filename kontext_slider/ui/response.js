// The response curve under the slider, and what follows from it: even steps, and how far the slider may go beyond full.
// Given by canvas.js: stage, scale, strip, frames, key, find, place, move, show, drawThumbs, tools, trigger.
const RESPONSE_PANEL = `
  <label><input type="checkbox" name="even"> Even steps</label>
  <label><input type="checkbox" name="beyond"> Beyond full</label>
  <span class="findings hint"></span>`;
const FULL_STRENGTH = 1;
const MOST_STRENGTH = 1.5; // the server renders nothing beyond

const stretchText = ([low, high]) => strengthText(low) + " to " + strengthText(high);

// What a curve tells, in sentences.
function findingsOf(curve, highest) {
  if (!curve) return "The curve comes with the frames.";
  if (curve.is_flat) return "The picture hardly changes at any strength.";
  const dead = curve.dead.map((stretch) => `Hardly anything changes from ${stretchText(stretch)}.`);
  const jumps = curve.jumps.map((stretch) => `The picture jumps from ${stretchText(stretch)}.`);
  const found = [...dead, ...jumps];
  if (found.length === 0) found.push("No dead zones and no jumps.");
  return [...found, ...beyondFindings(curve, highest)].join(" ");
}

function beyondFindings(curve, highest) {
  if (highest <= FULL_STRENGTH) return [];
  const found = ["Beyond 1 is extrapolation: the edit goes further than asked for, and may break."];
  if (curve.stops !== null) found.push(`The edit stops growing at ${strengthText(curve.stops)}.`);
  if (curve.breaks !== null) found.push(`It breaks at ${strengthText(curve.breaks)}.`);
  return found;
}

class ResponseTool {
  #curve = null; // as drawn
  #strengths = []; // of the strip, as the server has them
  #panel = document.createElement("div");
  #drawing = find(".response");
  #even;
  #beyond;
  #spread = ""; // the strengths of the strip, as text

  constructor() {
    this.#panel.innerHTML = RESPONSE_PANEL;
    [this.#even, this.#beyond] = ["even", "beyond"].map((name) => this.#panel.querySelector(`[name=${name}]`));
    const title = "How the edit responds to the slider; even steps; beyond full";
    tools.add({ name: "response", label: "Response", title, panel: this.#panel });
    const { even = false, beyond = false } = kept().response || {};
    [this.#even.checked, this.#beyond.checked] = [even, beyond && picture.canDraw];
    this.#even.addEventListener("change", () => this.#changed());
    this.#beyond.addEventListener("change", () => (this.#changed(), this.#askBeyond()));
    stage.addEventListener("edit", ({ detail }) => this.#begin(detail));
    stage.addEventListener("message", ({ detail }) => this.#receive(detail));
    if (!picture.canDraw) this.#disableEven();
  }

  // A browser that shows finished frames has none at the strengths of even steps.
  #disableEven() {
    this.#even.disabled = true;
    this.#even.checked = false;
    this.#even.parentElement.title = "This browser cannot draw the picture between the finished frames (no WebGL2).";
  }

  // value.strength: where a restored edit stands.
  #begin(value) {
    if (value.strength > FULL_STRENGTH) this.#beyond.checked = true;
    if (this.#beyond.checked) this.#askBeyond();
    this.#spread = "";
    this.#curve = scale.curve = null;
    this.#drawing.toggleAttribute("hidden", true);
    this.#apply();
  }

  #changed() {
    keep({ response: { even: this.#even.checked, beyond: this.#beyond.checked } });
    this.#apply();
    show();
  }

  #askBeyond() {
    trigger("beyond", { edit, on: this.#beyond.checked });
  }

  #receive({ curve, strengths }) {
    if (scale.isEven && slider.matches(":active")) return; // the thumb stays under the pointer; a later message does it
    this.#curve = curve || null;
    this.#apply(strengths);
  }

  // Scale, slider, strip and curve as they are chosen and measured.
  #apply(strengths = null) {
    scale.wantsEven = this.#even.checked;
    scale.highest = this.#beyond.checked ? MOST_STRENGTH : FULL_STRENGTH;
    scale.curve = this.#curve;
    stage.dataset.even = scale.isEven;
    if (strength > scale.highest) move(scale.highest);
    else place();
    find(".end.right").textContent = scale.highest > FULL_STRENGTH ? "beyond full" : "fully edited";
    this.#panel.querySelector(".findings").textContent = findingsOf(this.#curve, scale.highest);
    if (strengths) this.#strengths = strengths;
    this.#spreadStrip();
    this.#draw();
  }

  #spreadStrip() {
    if (this.#strengths.length === 0) return;
    const upToFull = this.#strengths.filter((each) => each <= FULL_STRENGTH);
    const beyond = this.#strengths.filter((each) => each > FULL_STRENGTH && each <= scale.highest);
    const wanted = [...(scale.isEven ? scale.evenStrengths(upToFull.length) : upToFull), ...beyond];
    if (this.#spread === String(wanted)) return;
    this.#spread = String(wanted);
    strip.spread(wanted);
    for (const frame of frames.values()) if (frame.hasImage && !frame.preview) strip.fill(frame.strength, frame.image);
    drawThumbs(true);
  }

  // Distance to the photograph over the slider's length: a filled curve, with its stretches and marks behind.
  #draw() {
    const curve = this.#curve;
    this.#drawing.toggleAttribute("hidden", !curve || curve.is_flat);
    if (!curve) return;
    const most = Math.max(...curve.distances) || 1;
    const at = (each) => scale.shareOf(Math.min(each, scale.highest)).toFixed(4);
    const points = curve.strengths.map((each, index) => [at(each), (1 - curve.distances[index] / most).toFixed(4)]);
    const line = points.map((point) => point.join(" ")).join("L");
    const band = (kind) => ([low, high]) =>
      `<rect class="${kind}" x="${at(low)}" width="${(at(high) - at(low)).toFixed(4)}" y="0" height="1"></rect>`;
    const mark = (kind, each) => (each === null ? "" : `<path class="${kind}" d="M${at(each)} 0V1"></path>`);
    this.#drawing.innerHTML =
      curve.dead.map(band("dead")).join("") +
      curve.jumps.map(band("jump")).join("") +
      `<path class="area" d="M${points[0][0]} 1L${line}V1Z"></path><path class="line" d="M${line}"></path>`;
    if (scale.highest > FULL_STRENGTH)
      this.#drawing.innerHTML += mark("full", FULL_STRENGTH) + mark("limit", curve.stops) + mark("limit", curve.breaks);
    const text = "Distance to the photograph by strength. " + findingsOf(curve, scale.highest);
    this.#drawing.setAttribute("aria-label", text);
  }
}

new ResponseTool();
