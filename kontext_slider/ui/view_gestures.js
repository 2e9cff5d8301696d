// Zoom and pan with wheel, fingers, mouse and keys. It changes {zoom, centre} (view_place.js), and draws nothing.
const WHEEL_ZOOM = 0.0016; // of a wheel's pixel, as a power of e
const PINCH_ZOOM = 0.01; // the same where a touchpad reports a pinch
const LINE_PIXELS = 16; // of a wheel that counts lines
const KEY_ZOOM = 1.25;
const KEY_PAN = 0.1; // of the canvas
const TAP_MS = 300; // between the two taps of a double tap
const TAP_PIXELS = 24; // that a finger may move within a tap, and between two
const WHEEL_REST_MS = 250; // a wheel that has just zoomed out to the whole picture does not scroll the page yet

// element: the canvas, or what lies exactly over it. view: has canvasSize and photographSize. onChange(place) is called
// after every change. options.onPinch() is called when a second finger arrives (a brush ends its stroke).
// Returns {place, set(place), oneFinger, detach()}: with oneFinger = false single fingers, presses of the main button
// and double taps are left to others (a brush). The element carries data-zoomed where there is something to pan.
function attachGestures(element, view, onChange, options = {}) {
  return new ViewGestures(element, view, onChange, options);
}

class ViewGestures {
  place = { zoom: "fit", centre: [0.5, 0.5] };
  #element;
  #view;
  #onChange;
  #onPinch;
  #oneFinger = true;
  #pointers = new Map(); // pointer id -> [x, y], pixels of the canvas
  #start = null; // what a drag or pinch keeps: {at, zoom, distance}
  #tap = null; // the last press: {x, y, time, isSecond}
  #wheeled = -Infinity;
  #ended = new AbortController();

  constructor(element, view, onChange, { onPinch = () => {} }) {
    this.#element = element;
    this.#view = view;
    this.#onChange = onChange;
    this.#onPinch = onPinch;
    const listen = (name, handler, more) =>
      element.addEventListener(name, handler.bind(this), { signal: this.#ended.signal, ...more });
    listen("wheel", this.#wheel, { passive: false });
    listen("pointerdown", this.#press);
    listen("pointermove", this.#move);
    for (const name of ["pointerup", "pointercancel"]) listen(name, this.#release);
    // Two fingers are ours from the first moment, else the page scrolls and takes them.
    listen("touchstart", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
    listen("keydown", this.#key);
    this.#mark();
  }

  get oneFinger() {
    return this.#oneFinger;
  }

  set oneFinger(isOn) {
    this.#oneFinger = isOn;
    this.#mark();
  }

  set(place) {
    const { canvasSize, photographSize } = this.#view;
    this.place = photographSize ? limitedPlace(place, canvasSize, photographSize) : this.place;
    this.#mark();
    this.#onChange(this.place);
  }

  detach() {
    this.#ended.abort();
    this.#element.style.touchAction = "";
  }

  #mark() {
    const isZoomed = this.place.zoom !== "fit";
    this.#element.toggleAttribute("data-zoomed", isZoomed);
    this.#element.style.touchAction = isZoomed || !this.#oneFinger ? "none" : "pan-x pan-y";
  }

  // Of an event, in pixels of the canvas.
  #pixel(event) {
    const box = this.#element.getBoundingClientRect();
    const { width, height } = this.#view.canvasSize;
    return [((event.clientX - box.left) * width) / box.width, ((event.clientY - box.top) * height) / box.height];
  }

  #zoom() {
    return zoomOf(this.place, this.#view.canvasSize, this.#view.photographSize);
  }

  #zoomAbout(zoom, pixel) {
    const { canvasSize, photographSize } = this.#view;
    const at = photographAt(this.place, pixel, canvasSize, photographSize);
    this.set(placeWith(zoom, at, pixel, canvasSize, photographSize));
  }

  #toggle(pixel) {
    if (this.place.zoom === "fit") this.#zoomAbout(1, pixel);
    else this.set({ zoom: "fit", centre: [0.5, 0.5] });
  }

  #wheel(event) {
    if (!this.#view.photographSize) return;
    const isIdle = this.place.zoom === "fit" && event.timeStamp - this.#wheeled > WHEEL_REST_MS;
    if (isIdle && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    this.#wheeled = event.timeStamp;
    const pixels = event.deltaY * [1, LINE_PIXELS, this.#element.clientHeight][event.deltaMode];
    this.#zoomAbout(this.#zoom() * Math.exp(-pixels * (event.ctrlKey ? PINCH_ZOOM : WHEEL_ZOOM)), this.#pixel(event));
  }

  #press(event) {
    if (!this.#view.photographSize || event.button > 1) return;
    const isFree = this.#oneFinger || event.button === 1 || this.#pointers.size > 0 || event.pointerType === "touch";
    if (!isFree) return;
    const pixel = this.#pixel(event);
    this.#pointers.set(event.pointerId, pixel);
    if (this.#pointers.size === 2) this.#onPinch();
    if (this.#pointers.size === 2 || this.#canPan(event.button)) this.#element.setPointerCapture(event.pointerId);
    if (event.button === 1) event.preventDefault(); // the browser's own scrolling
    const isNear = this.#tap && Math.hypot(event.clientX - this.#tap.x, event.clientY - this.#tap.y) < TAP_PIXELS;
    const isSecond = Boolean(isNear && !this.#tap.isSecond && event.timeStamp - this.#tap.time < TAP_MS);
    const isTap = this.#pointers.size === 1 && event.button === 0;
    this.#tap = isTap ? { x: event.clientX, y: event.clientY, time: event.timeStamp, isSecond } : null;
    this.#begin();
  }

  #canPan(button) {
    return this.place.zoom !== "fit" && (this.#oneFinger || button === 1);
  }

  // What is under the fingers now stays under them.
  #begin() {
    const { canvasSize, photographSize } = this.#view;
    if (this.#pointers.size === 0) return void (this.#start = null);
    const { middle, distance } = this.#fingers();
    const at = photographAt(this.place, middle, canvasSize, photographSize);
    this.#start = { at, distance, zoom: this.#zoom() };
  }

  #fingers() {
    const [first, second = first] = this.#pointers.values();
    const middle = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
    return { middle, distance: Math.hypot(first[0] - second[0], first[1] - second[1]) };
  }

  #move(event) {
    if (!this.#pointers.has(event.pointerId)) return;
    this.#pointers.set(event.pointerId, this.#pixel(event));
    const isPinch = this.#pointers.size > 1;
    if (!isPinch && !this.#canPan(event.buttons === 4 ? 1 : 0)) return;
    const { canvasSize, photographSize } = this.#view;
    const { middle, distance } = this.#fingers();
    const times = isPinch && this.#start.distance > 0 ? distance / this.#start.distance : 1;
    this.set(placeWith(this.#start.zoom * times, this.#start.at, middle, canvasSize, photographSize));
  }

  #release(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    this.#begin();
    const { x, y, isSecond } = this.#tap || {};
    if (event.type !== "pointerup" || !isSecond || !this.#oneFinger) return;
    if (Math.hypot(event.clientX - x, event.clientY - y) < TAP_PIXELS) this.#toggle(this.#pixel(event));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.#view.photographSize) return;
    const { width, height } = this.#view.canvasSize;
    const middle = [width / 2, height / 2];
    const times = { "+": KEY_ZOOM, "=": KEY_ZOOM, "-": 1 / KEY_ZOOM }[event.key];
    const pan = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (times) this.#zoomAbout(this.#zoom() * times, middle);
    else if (event.key === "0") this.set({ zoom: "fit", centre: [0.5, 0.5] });
    else if (pan && this.place.zoom !== "fit") this.#pan(pan[0] * KEY_PAN * width, pan[1] * KEY_PAN * height);
    else return;
    event.preventDefault();
  }

  #pan(right, down) {
    const { canvasSize, photographSize } = this.#view;
    const { width, height } = rectangleOf(this.place, canvasSize, photographSize);
    const [x, y] = this.place.centre;
    this.set({ zoom: this.place.zoom, centre: [x + right / width, y + down / height] });
  }
}
