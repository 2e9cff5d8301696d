// Compare with the untouched photograph: while a key or the picture is held, beside a line that can be dragged, or as a
// heat map of the difference. Given by canvas.js: stage, picture, frames, key, show, find, tools.
const HOLD_MS = 220; // a press that rests for so long shows the photograph; a double click zooms before
const HOLD_PIXELS = 6; // that a resting press may move
const HOLD_KEYS = ["\\", "b", "B"];
const SPLIT_KEYS = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1 };
const COMPARE_PANEL = `
  <button type="button" data-mode="split" aria-pressed="false">Split line</button>
  <button type="button" data-mode="difference" aria-pressed="false">Difference</button>
  <span class="heat" hidden>unchanged <i></i> changed most</span>
  <span class="hint">Hold the picture<span class="keys">, or the key B or \\,</span> to see the untouched photograph.</span>`;
const SPLIT_LINE = `<div class="split" role="slider" tabindex="0" aria-orientation="horizontal" aria-valuemin="0"
  aria-valuemax="100" aria-label="Line between the untouched photograph and the edit" hidden>
  <span class="side">untouched</span><i></i><span class="side">edited</span></div>
  <span class="held" hidden>untouched</span>`;

class Compare {
  #mode = null; // "split", "difference", or null
  #share = 0.5; // of the visible photograph that lies left of the line
  #isHeld = false;
  #press = null; // {x, y, timer} of a pointer that may come to rest
  #overlay = find(".overlay");
  #holder = find(".picture");
  #panel = document.createElement("div");
  #line;
  #tool;

  constructor() {
    this.#panel.innerHTML = COMPARE_PANEL;
    this.#overlay.insertAdjacentHTML("beforeend", SPLIT_LINE);
    this.#line = this.#overlay.querySelector(".split");
    for (const button of this.#panel.querySelectorAll("button"))
      button.addEventListener("click", () => this.#choose(this.#mode === button.dataset.mode ? null : button.dataset.mode));
    this.#tool = tools.add({
      name: "compare",
      label: "Compare",
      title: "See the edit beside the untouched photograph",
      panel: this.#panel,
      onOpen: () => this.#choose(kept().compare || "split"),
      onClose: () => this.#choose(null),
    });
    this.#listenToLine();
    this.#listenToHolds();
    for (const name of ["shown", "place"]) stage.addEventListener(name, () => this.#apply());
    stage.addEventListener("edit", () => kept().compare && this.#tool.open(), { once: true });
  }

  #choose(mode) {
    this.#mode = mode;
    keep({ compare: mode });
    this.#apply();
  }

  // Draw as it was chosen, if the browser can draw; the line and the marks lie over the picture.
  #apply() {
    const canCompare = picture.isDrawn;
    const isSplit = canCompare && this.#mode === "split" && !this.#isHeld;
    const isHeat = canCompare && this.#mode === "difference";
    for (const button of this.#panel.querySelectorAll("button")) {
      button.disabled = !canCompare;
      button.setAttribute("aria-pressed", String(canCompare && button.dataset.mode === this.#mode));
    }
    this.#panel.querySelector(".heat").hidden = !isHeat;
    this.#overlay.querySelector(".held").hidden = !this.#isHeld;
    this.#line.hidden = !isSplit;
    if (!canCompare) return void (this.#isHeld && this.#showFrameAtZero());
    const column = isSplit ? this.#putLine() : null;
    picture.look({ show: this.#isHeld ? "source" : isHeat ? "difference" : "edit", split: column });
  }

  // Without WebGL2 the frame at strength 0 is the photograph.
  #showFrameAtZero() {
    const frame = frames.get(key(0));
    if (frame && frame.hasImage) picture.showFrame(frame.image);
  }

  // ---- holding

  #hold(isHeld) {
    if (this.#isHeld === isHeld) return;
    this.#isHeld = isHeld;
    if (isHeld) find(".spoken").textContent = "The untouched photograph is shown.";
    else shown = null; // the frame in the picture is not the one of the slider
    show();
  }

  #listenToHolds() {
    stage.addEventListener("keydown", (event) => {
      const isTyped = event.target.matches("input:not([type=range]), textarea");
      if (!HOLD_KEYS.includes(event.key) || isTyped || event.ctrlKey || event.metaKey || edit === 0) return;
      event.preventDefault();
      this.#hold(true);
    });
    for (const name of ["keyup", "blur"]) window.addEventListener(name, () => this.#press || this.#hold(false));
    this.#holder.addEventListener("pointerdown", (event) => this.#pressed(event));
    this.#holder.addEventListener("pointermove", (event) => this.#moved(event));
    for (const name of ["pointerup", "pointercancel"]) this.#holder.addEventListener(name, () => this.#released());
    // A finger that rests opens the menu of the picture elsewhere.
    this.#holder.addEventListener("contextmenu", (event) => this.#press && event.preventDefault());
  }

  #pressed(event) {
    this.#released(); // a second finger: this is a pinch
    const isOurs = !picture.gestures || picture.gestures.oneFinger; // else somebody draws on the picture
    if (!event.isPrimary || event.button !== 0 || !isOurs || edit === 0) return;
    this.#press = { x: event.clientX, y: event.clientY, timer: setTimeout(() => this.#hold(true), HOLD_MS) };
  }

  #moved({ clientX, clientY }) {
    if (!this.#press || this.#isHeld) return;
    if (Math.hypot(clientX - this.#press.x, clientY - this.#press.y) > HOLD_PIXELS) this.#released();
  }

  #released() {
    if (!this.#press) return;
    clearTimeout(this.#press.timer);
    this.#press = null;
    this.#hold(false);
  }

  // ---- the line

  // Put the line where it belongs. Returns its column of the canvas, 0 to 1.
  #putLine() {
    const { low, high } = this.#visible();
    const column = low + this.#share * (high - low);
    const percent = Math.round(100 * this.#share);
    this.#line.style.left = 100 * column + "%";
    this.#line.setAttribute("aria-valuenow", percent);
    this.#line.setAttribute("aria-valuetext", percent + " % untouched, from the left");
    return column;
  }

  // The columns between which the photograph is seen, 0 to 1 of the canvas.
  #visible() {
    const { canvasSize, photographSize } = picture.view;
    const { left, width } = rectangleOf(picture.place, canvasSize, photographSize);
    return { low: Math.max(0, left / canvasSize.width), high: Math.min(1, (left + width) / canvasSize.width) };
  }

  #moveLine(share) {
    this.#share = Math.min(1, Math.max(0, share));
    this.#apply();
  }

  #listenToLine() {
    const line = this.#line;
    line.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      line.setPointerCapture(event.pointerId);
      line.focus();
      event.preventDefault();
    });
    line.addEventListener("pointermove", (event) => {
      if (!line.hasPointerCapture(event.pointerId)) return;
      const box = this.#overlay.getBoundingClientRect();
      const { low, high } = this.#visible();
      this.#moveLine(((event.clientX - box.left) / box.width - low) / (high - low));
    });
    line.addEventListener("dblclick", () => this.#moveLine(0.5));
    line.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const target = { Home: 0, End: 1 }[event.key] ?? this.#share + (SPLIT_KEYS[event.key] ?? NaN);
      if (Number.isNaN(target)) return;
      event.preventDefault();
      this.#moveLine(target);
    });
  }
}

new Compare();
