// The transfers of one edit on the graphics card: one layer each in two array textures, in the order of their arrival,
// so that a new one costs one upload wherever its strength lies.
const TABLE_STEPS = 1200; // of strengths: the hundredths and fortieths of [0, 1] and [0, 1.5] are ends of steps
const FIRST_CAPACITY = 12; // layers; doubled when they are full

function makeTexture(gl, target, filter) {
  const texture = gl.createTexture();
  gl.bindTexture(target, texture);
  gl.texParameteri(target, gl.TEXTURE_MIN_FILTER, filter);
  gl.texParameteri(target, gl.TEXTURE_MAG_FILTER, filter);
  gl.texParameteri(target, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
  gl.texParameteri(target, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
  return texture;
}

const sizeOf = (plane) => (plane ? plane.width + " x " + plane.height : "");

class TransferLayers {
  affine = null; // textures; affine has three layers for each transfer, one for each channel of the result
  detail = null; // null: no transfer has any
  table = null;
  version = 0; // of what the layers hold
  sizes = { affine: null, detail: null }; // {width, height}
  strengths = [];
  layers = []; // of the strengths
  #gl;
  #entries = [];
  #held = new Map(); // transfer -> its layer
  #capacity = 0;
  #layout = "";
  #identity = null;

  constructor(gl) {
    this.#gl = gl;
    this.table = makeTexture(gl, gl.TEXTURE_2D, gl.NEAREST);
  }

  // [{strength, transfer}]; a transfer of null changes nothing. Throws an Error where they do not fit together.
  set(entries) {
    const sorted = [...entries].sort((one, other) => one.strength - other.strength);
    const known = sorted.map((entry) => entry.transfer).filter(Boolean);
    const withDetail = known.find((transfer) => transfer.detail);
    const affine = known.length ? known[0].affine : { width: 1, height: 1 };
    this.#check(sorted, affine, withDetail);
    const layout = sizeOf(affine) + ", " + sizeOf(withDetail && withDetail.detail);
    if (layout !== this.#layout) this.#identity = identityTransfer(affine.width, affine.height);
    this.#entries = sorted.map(({ strength, transfer }) => ({ strength, transfer: transfer || this.#identity }));
    if (layout !== this.#layout || sorted.length > this.#capacity) this.#allocate(affine, withDetail && withDetail.detail);
    this.#layout = layout;
    this.#place();
    this.version++;
    this.strengths = sorted.map((entry) => entry.strength);
    this.layers = this.#entries.map((entry) => this.#held.get(entry.transfer));
    this.#uploadTable();
  }

  // The layers of both neighbours of a strength, and the part of the upper one.
  at(strength) {
    const { lower, upper, part } = neighbours(this.strengths, strength);
    return [this.layers[lower], this.layers[upper], part];
  }

  dispose() {
    for (const texture of [this.affine, this.detail, this.table]) this.#gl.deleteTexture(texture);
  }

  #check(sorted, affine, withDetail) {
    const isTwice = sorted.some((entry, index) => index > 0 && entry.strength === sorted[index - 1].strength);
    if (isTwice) throw new Error("Two transfers have the same strength.");
    for (const { transfer } of sorted) {
      if (!transfer) continue;
      const isEqual = sizeOf(transfer.affine) === sizeOf(affine);
      const fits = !transfer.detail || sizeOf(transfer.detail) === sizeOf(withDetail.detail);
      if (!isEqual || !fits) throw new Error("The transfers of one edit must have one size.");
    }
  }

  #allocate(affine, detail) {
    const gl = this.#gl;
    this.sizes = { affine, detail };
    this.#held.clear();
    this.#capacity = Math.max(FIRST_CAPACITY, this.#capacity);
    while (this.#capacity < this.#entries.length) this.#capacity *= 2;
    gl.deleteTexture(this.affine);
    gl.deleteTexture(this.detail);
    const make = (format, plane, perTransfer) => {
      const texture = makeTexture(gl, gl.TEXTURE_2D_ARRAY, gl.LINEAR);
      gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, format, plane.width, plane.height, perTransfer * this.#capacity);
      return texture;
    };
    this.affine = make(gl.RGBA16F, affine, 3);
    this.detail = detail ? make(gl.RGB16F, detail, 1) : null;
  }

  // Upload what has no layer yet, into layers whose transfers are not wanted any more.
  #place() {
    const wanted = new Set(this.#entries.map((entry) => entry.transfer));
    for (const transfer of this.#held.keys()) if (!wanted.has(transfer)) this.#held.delete(transfer);
    const taken = new Set(this.#held.values());
    const free = [...Array(this.#capacity).keys()].filter((layer) => !taken.has(layer));
    for (const transfer of wanted) {
      if (this.#held.has(transfer)) continue;
      this.#held.set(transfer, free.shift());
      this.#upload(transfer, this.#held.get(transfer));
    }
  }

  #upload({ affine, detail }, layer) {
    const gl = this.#gl;
    const send = (texture, format, { width, height, data }, depth) => {
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
      const at = [0, 0, 0, depth * layer, width, height, depth];
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, ...at, format, gl.HALF_FLOAT, data);
    };
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    send(this.affine, gl.RGBA, affine, 3);
    if (this.detail) send(this.detail, gl.RGB, detail || this.#noDetail(), 1);
  }

  #noDetail() {
    const { width, height } = this.sizes.detail;
    return { width, height, data: new Uint16Array(3 * width * height) };
  }

  #uploadTable() {
    const gl = this.#gl;
    const table = strengthTable(this.strengths, this.layers, TABLE_STEPS);
    gl.bindTexture(gl.TEXTURE_2D, this.table);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, TABLE_STEPS, 1, 0, gl.RGBA, gl.FLOAT, table);
  }
}
