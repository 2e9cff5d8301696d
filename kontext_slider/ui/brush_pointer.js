// The pointer on the picture while the brush is chosen. One finger, the mouse or a pen draws; a second finger ends that, as
// two fingers zoom and pan (view_gestures.js). While Space is held, the picture is moved instead.
const PINCH_MS = 400; // a second finger that comes so soon after the first wants to zoom: nothing was drawn
const ERASER = 32; // among a pen's buttons

class BrushPointer {
  #canvas;
  #tool;
  #drawing = null; // {id, time}: the pointer that draws
  #isPaused = false;
  #fingers = new Set();

  // tool: isOn; begin(point, {isOther, isJoined, isFree}), move(points), end(), cancel(); hover(point or null). A point is
  // {x, y, pressure}: of the screen, and 0 to 1. isOther: the other mode for once (Alt, a pen's eraser). isJoined: on from
  // the last stroke (Shift). isFree: with edges left alone (Ctrl).
  constructor(canvas, tool) {
    [this.#canvas, this.#tool] = [canvas, tool];
    const listen = (name, handler) => canvas.addEventListener(name, (event) => tool.isOn && handler.call(this, event));
    listen("pointerdown", this.#press);
    listen("pointermove", this.#move);
    for (const name of ["pointerup", "pointercancel"]) listen(name, this.#release);
    listen("pointerleave", () => !this.#drawing && tool.hover(null));
    listen("contextmenu", (event) => event.pointerType !== "mouse" && event.preventDefault()); // of a long press
  }

  // Whether pointers are left to zoom and pan for now.
  pause(isPaused) {
    if (this.#isPaused === isPaused) return;
    this.#isPaused = isPaused;
    picture.gestures.oneFinger = isPaused;
    this.stop();
    if (isPaused) this.#tool.hover(null);
  }

  get isDrawing() {
    return this.#drawing !== null;
  }

  // Take back what is being drawn.
  cancel() {
    this.#drawing = null;
    this.#tool.cancel();
  }

  // Let go of a pointer that draws.
  stop() {
    if (this.#drawing) this.#tool.end();
    this.#drawing = null;
    this.#fingers.clear();
  }

  #press(event) {
    if (event.pointerType === "touch") this.#fingers.add(event.pointerId);
    if (this.#drawing && this.#fingers.size > 1) return this.#pinch(event);
    const isEraser = Boolean(event.buttons & ERASER);
    if (this.#isPaused || this.#drawing || this.#fingers.size > 1 || (event.button !== 0 && !isEraser)) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#canvas.focus({ preventScroll: true });
    event.preventDefault();
    this.#drawing = { id: event.pointerId, time: event.timeStamp };
    const [isOther, isFree] = [event.altKey || isEraser, event.ctrlKey || event.metaKey];
    this.#tool.begin(this.#point(event), { isOther, isJoined: event.shiftKey, isFree });
  }

  #pinch(event) {
    if (event.timeStamp - this.#drawing.time < PINCH_MS) return this.cancel();
    this.#drawing = null;
    this.#tool.end();
  }

  #move(event) {
    if (this.#drawing && this.#drawing.id === event.pointerId) {
      const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      this.#tool.move((events.length ? events : [event]).map((each) => this.#point(each)));
    } else if (!this.#isPaused && event.pointerType !== "touch") this.#tool.hover(this.#point(event));
  }

  #release(event) {
    this.#fingers.delete(event.pointerId);
    if (!this.#drawing || this.#drawing.id !== event.pointerId) return;
    this.#drawing = null;
    this.#tool.end();
    if (event.pointerType === "touch") this.#tool.hover(null);
  }

  #point({ clientX, clientY, pointerType, pressure }) {
    return { x: clientX, y: clientY, pressure: pointerType === "pen" ? pressure : 1 };
  }
}
