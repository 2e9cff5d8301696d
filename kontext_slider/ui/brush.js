// The brush: a tool that paints how much of the slider's strength every place of the photograph gets (strength_map.js).
const NO_BRUSH = "This browser cannot draw the picture itself (it has no WebGL2), so the strength cannot be painted here.";
const SIZE_RATIO = 1.2; // of a press of [ or ]
const SOFTNESS_STEP = 0.1;
const DONE = {
  place: "The gradient is placed. The sliders move it.",
  undo: "Undone.",
  redo: "Done again.",
  fill: "Filled.",
  invert: "Inverted.",
  clear: "All paint is removed. The edit is everywhere.",
};
const REDRAW_MS = 250; // thumbs are drawn so long after a change

const limited = (value, least, most) => Math.min(most, Math.max(least, value));

class Brush {
  map = null; // of the photograph that is drawn
  #tool;
  #panel;
  #drawing = new BrushDrawing(this);
  #pointer;
  #maps = new BrushMaps();
  #photograph = ""; // what the edit that has begun last stands on
  #drawn = null; // the same of the photograph that is drawn
  #colours = null; // of the photograph, once edges are looked for
  #settings = { shape: "brush", mode: "paint", showsMap: false, followsEdges: true, amount: 1, x: 0.5, y: 0.5, angle: 90 };
  #sizes = { brush: 0.12, linear: 0.4, radial: 0.5 };
  #softnesses = { brush: 0.5, linear: 1, radial: 0.5 };
  #isAdjusting = false; // the sliders move the gradient that was placed last
  #redrawTimer = 0;

  constructor() {
    this.#panel = new BrushPanel((name, value) => this.#set(name, value), (name) => this.#press(name));
    this.#tool = tools.add({
      name: "brush",
      label: "Brush",
      title: "Paint where the edit shall be",
      panel: this.#panel.element,
      onOpen: () => ((picture.gestures.oneFinger = false), this.#update()),
      onClose: () => this.#close(),
    });
    this.#pointer = new BrushPointer(picture.canvas, this.#drawing);
    for (const name of ["keydown", "keyup"]) document.addEventListener(name, (event) => this.#key(event));
    window.addEventListener("blur", () => this.#tool.isOpen && this.#pointer.pause(false));
    stage.addEventListener("edit", ({ detail }) => {
      this.#photograph = standingOn(detail.inputs);
      if (typeof detail.strength_map === "string") this.use(detail.strength_map || null);
    });
    stage.addEventListener("photograph", () => this.#useMap());
    stage.addEventListener("place", () => this.#drawing.hide());
  }

  get isOn() {
    return this.#tool.isOpen && picture.isDrawn && this.map !== null;
  }

  // Those of the shape that is chosen.
  get settings() {
    const { shape } = this.#settings;
    return { ...this.#settings, size: this.#sizes[shape], softness: this.#softnesses[shape] };
  }

  // The map as a save sends it; null: nothing is painted.
  async packed() {
    return this.#drawn === this.#photograph && this.map.isPainted ? packMap(this.map) : null;
  }

  // Take a map that was packed, null for none, for the newest edit; it can be undone.
  async use(text) {
    await undefined; // until an edit that begins has begun
    if (this.#drawn !== this.#photograph) await new Promise((drawn) => stage.addEventListener("photograph", drawn, { once: true }));
    const { map } = this;
    if (text === null) map.clear();
    else map.replace(await unpackMap(text, map));
    if (this.map === map) this.changed();
  }

  // What edges are found in.
  colours() {
    this.#colours ||= edgeColours(picture.photographPixels(this.map));
    return this.#colours;
  }

  // What a stroke moves the map towards; isOther: the other mode for once.
  target(isOther = false) {
    const isErasing = (this.#settings.mode === "erase") !== isOther;
    return isErasing ? 0 : Math.round(WHOLE_SHARE * this.#settings.amount);
  }

  setGradient({ size, ...place }) {
    this.#sizes[this.#settings.shape] = limited(size, LEAST_SIZE, MOST_SIZE);
    Object.assign(this.#settings, place);
    this.#update();
  }

  // Give the picture the whole map.
  put() {
    picture.setStrengthMap(this.map.isPainted ? this.map : null);
    this.#update();
    show();
    clearTimeout(this.#redrawTimer);
    this.#redrawTimer = setTimeout(() => drawThumbs(true), REDRAW_MS);
  }

  // The map is another one: show and keep it. isAdjusting: by a gradient, which the sliders move from now on.
  changed(isAdjusting = false) {
    this.#isAdjusting = isAdjusting;
    this.put();
    this.#maps.keep(this.#photograph, this.map);
  }

  // Another photograph is drawn from now on, or the same one again.
  async #useMap() {
    const [path, map] = [this.#photograph, this.#maps.of(this.#photograph, picture.view.photographSize)];
    [this.#drawn, this.map, this.#colours, this.#isAdjusting] = [path, map, null, false];
    this.#drawing.forget();
    this.put();
    const isBack = (await this.#maps.restore(path, map)) || (await this.#maps.load(chain.topMap, map));
    if (isBack && this.map === map) this.put();
  }

  #close() {
    this.#pointer.pause(false);
    this.#pointer.stop();
    this.#isAdjusting = false;
    picture.gestures.oneFinger = true;
    picture.showMap(false);
    this.#drawing.hide();
  }

  #leave() {
    this.#tool.close();
    this.#tool.button.focus();
  }

  #update() {
    const { canUndo = false, canRedo = false, isPainted = false } = this.map || {};
    this.#panel.show(this.settings, { canUndo, canRedo, isPainted });
    picture.showMap(this.#settings.showsMap && this.#tool.isOpen);
  }

  #set(name, value) {
    const { shape } = this.#settings;
    if (name === "size") this.#sizes[shape] = limited(value, LEAST_SIZE, MOST_SIZE);
    else if (name === "softness") this.#softnesses[shape] = limited(value, 0, 1);
    else this.#settings[name] = value;
    const isOfGradient = !["shape", "showsMap", "followsEdges"].includes(name);
    if (name === "shape") (this.#isAdjusting = false), this.#drawing.hide();
    if (this.#isAdjusting && isOfGradient) this.#place();
    this.#update();
    if (name === "size" || name === "softness") this.#drawing.showSize();
  }

  #press(name) {
    if (this.map === null || !picture.isDrawn) return;
    this.#pointer.stop();
    if (name === "place") return this.#place();
    if (name === "fill") this.map.fill(this.target());
    else this.map[name]();
    this.changed();
    find(".spoken").textContent = DONE[name];
  }

  // Put the gradient of the settings onto the map; it takes the place of the one that is being adjusted.
  #place() {
    if (this.#isAdjusting) this.map.undo();
    this.map.begin(this.target());
    this.map.cover((coverage) => coverGradient(coverage, this.settings));
    this.map.end();
    if (!this.#isAdjusting) find(".spoken").textContent = DONE.place;
    this.changed(true);
  }

  #key(event) {
    const isHere = stage.contains(event.target) || event.target === document.body;
    const isTyped = event.target.matches("input:not([type=range]), textarea, select");
    if (!this.#tool.isOpen || !isHere || isTyped) return;
    const isButton = event.target.closest("button, input");
    if (event.key === " " && !isButton) this.#pointer.pause(event.type === "keydown");
    else if (event.type === "keyup" || !this.#command(event)) return;
    event.preventDefault();
  }

  // Do what a key stands for; false: nothing. Brackets count by their place on the keyboard as well.
  #command({ key, code, ctrlKey, metaKey, altKey, shiftKey }) {
    const { size, softness, mode, showsMap, followsEdges } = this.settings;
    const isCtrl = ctrlKey || metaKey;
    if (isCtrl && key.toLowerCase() === "z") return this.#press(shiftKey ? "redo" : "undo"), true;
    if (isCtrl && key.toLowerCase() === "y") return this.#press("redo"), true;
    const bracket = { BracketLeft: -1, BracketRight: 1, "[": -1, "]": 1, "{": -1, "}": 1 };
    const step = bracket[key] || bracket[code];
    if (step && shiftKey) this.#set("softness", softness + step * SOFTNESS_STEP);
    else if (step) this.#set("size", size * SIZE_RATIO ** step);
    else if (isCtrl || altKey) return false;
    else if (key === "Escape") this.#pointer.isDrawing ? this.#pointer.cancel() : this.#leave();
    else if (key.toLowerCase() === "x") this.#set("mode", mode === "paint" ? "erase" : "paint");
    else if (key.toLowerCase() === "o") this.#set("showsMap", !showsMap);
    else if (key.toLowerCase() === "e") this.#set("followsEdges", !followsEdges);
    else return false;
    return true;
  }
}

if (picture.canDraw) {
  const brush = new Brush();
  stage.strengthMap = () => brush.packed();
  stage.useStrengthMap = (text) => brush.use(text);
} else {
  const panel = Object.assign(document.createElement("p"), { textContent: NO_BRUSH });
  tools.add({ name: "brush", label: "Brush", title: NO_BRUSH, panel });
}
