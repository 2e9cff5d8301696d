// How much of the slider's strength every place of the photograph gets: a map of bytes that is painted. Pure: no page.
// Sizes are in pixels; 255 is the whole strength. A change can be undone.
const MAP_SIDE = 512; // pixels of the longer side, at most
const WHOLE_SHARE = 255;
const UNDO_BYTES = 16e6; // of all changes that can be undone or redone; the oldest go first

// {width, height} of the map of a photograph; not finer than the photograph.
function mapSize({ width, height }) {
  const scale = Math.min(1, MAP_SIDE / Math.max(width, height));
  return { width: Math.max(1, Math.round(scale * width)), height: Math.max(1, Math.round(scale * height)) };
}

// The smallest rectangle outside of which two maps are equal; null: they are.
function changedRectangle(one, other, width, height) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0, place = 0; y < height; y++)
    for (let x = 0; x < width; x++, place++)
      if (one[place] !== other[place]) {
        if (x < left) left = x;
        if (x > right) right = x;
        if (top === height) top = y;
        bottom = y;
      }
  return bottom < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

// The bytes of a rectangle of a map that is `columns` wide, row by row.
function bytesIn(data, columns, { x, y, width, height }) {
  const part = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const start = (y + row) * columns + x;
    part.set(data.subarray(start, start + width), row * width);
  }
  return part;
}

class StrengthMap {
  isPainted = false; // false: untouched, and the whole strength counts everywhere
  width;
  height;
  data;
  #undo = []; // {x, y, width, height, data, isPainted}: what the rectangle held before
  #redo = [];
  #change = null; // that is under way: {data, isPainted} as before it, `base` that it starts from, coverage, target

  constructor({ width, height }) {
    Object.assign(this, { width, height, data: new Uint8Array(width * height).fill(WHOLE_SHARE) });
  }

  get isTouched() {
    return this.isPainted || this.canUndo || this.canRedo;
  }

  get canUndo() {
    return this.#undo.length > 0;
  }

  get canRedo() {
    return this.#redo.length > 0;
  }

  // Take another content, which cannot be undone: bytes of a map of this size.
  load(data) {
    this.data.set(data);
    this.isPainted = true;
    [this.#undo, this.#redo, this.#change] = [[], [], null];
  }

  part(rectangle) {
    return bytesIn(this.data, this.width, rectangle);
  }

  // Begin a stroke or a gradient, which moves what it covers towards `target` (0 to 255). The first one of an untouched
  // map starts from nothing, to paint the edit in; one towards 0 takes it away from the whole edit.
  begin(target) {
    this.end();
    const base = this.isPainted || target === 0 ? this.data.slice() : new Uint8Array(this.data.length);
    this.#change = { data: this.data.slice(), isPainted: this.isPainted, base, target, coverage: this.#noCoverage() };
    this.data.set(base);
    this.isPainted = true;
  }

  get isChanging() {
    return this.#change !== null;
  }

  // Let draw(coverage) cover more; it returns the rectangle that may have changed, and so does this.
  cover(draw) {
    const rectangle = draw(this.#change.coverage) || { x: 0, y: 0, width: this.width, height: this.height };
    this.#blend(rectangle);
    return rectangle;
  }

  // End what has begun; it can be undone from now on.
  end() {
    const change = this.#change;
    this.#change = null;
    if (change) this.#record(change);
  }

  // Undo what has begun and not ended.
  cancel() {
    if (!this.#change) return;
    this.data.set(this.#change.data);
    this.isPainted = this.#change.isPainted;
    this.#change = null;
  }

  // Another content: bytes of a map of this size.
  replace(data) {
    this.#replace((_, place) => data[place]);
  }

  // The same share everywhere.
  fill(share) {
    this.#replace(() => share);
  }

  invert() {
    this.#replace((share) => WHOLE_SHARE - share);
  }

  // As if nothing had been painted.
  clear() {
    this.#replace(() => WHOLE_SHARE, false);
  }

  // Both return whether there was anything to be done.
  undo() {
    return this.#step(this.#undo, this.#redo);
  }

  redo() {
    return this.#step(this.#redo, this.#undo);
  }

  #noCoverage() {
    return { width: this.width, height: this.height, data: new Uint8Array(this.data.length) };
  }

  #blend({ x, y, width, height }) {
    const { base, coverage, target } = this.#change;
    for (let row = y; row < y + height; row++)
      for (let place = row * this.width + x; place < row * this.width + x + width; place++)
        this.data[place] = Math.round(base[place] + ((target - base[place]) * coverage.data[place]) / 255);
  }

  #replace(shareOf, isPainted = true) {
    this.end();
    const before = { data: this.data.slice(), isPainted: this.isPainted };
    for (let place = 0; place < this.data.length; place++) this.data[place] = shareOf(this.data[place], place);
    this.isPainted = isPainted;
    this.#record(before);
  }

  #record(before) {
    const changed = changedRectangle(before.data, this.data, this.width, this.height);
    if (!changed && before.isPainted === this.isPainted) return;
    const rectangle = changed || { x: 0, y: 0, width: 0, height: 0 };
    this.#redo = [];
    this.#undo.push({ ...rectangle, data: bytesIn(before.data, this.width, rectangle), isPainted: before.isPainted });
    let bytes = this.#undo.reduce((sum, { data }) => sum + data.length, 0);
    while (bytes > UNDO_BYTES) bytes -= this.#undo.shift().data.length;
  }

  // Take the newest entry of one list, put its rectangle into the map, and what was there into the other list.
  #step(from, to) {
    this.end();
    const entry = from.pop();
    if (!entry) return false;
    to.push({ ...entry, data: this.part(entry), isPainted: this.isPainted });
    const { x, y, width, height, data } = entry;
    for (let row = 0; row < height; row++)
      this.data.set(data.subarray(row * width, (row + 1) * width), (y + row) * this.width + x);
    this.isPainted = entry.isPainted;
    return true;
  }
}
