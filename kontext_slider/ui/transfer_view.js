// The picture on a canvas: the photograph with its edit at any strength, drawn by WebGL2 (transfer_shader.js).
// Sizes are in pixels; places within the photograph in [0, 1] from its upper left corner.
const AT_REST = { strength: 1, zoom: "fit", centre: [0.5, 0.5], split: null, show: "edit", showsMap: false };

// Mipmaps are soft: half a level less comes 1 to 4 dB nearer to a Lanczos reduction (3 photographs, to .3 to .85).
const SHARPER = 0.5;

// A view, or null where there is no WebGL2.
function makeTransferView(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, depth: false });
  return gl === null || gl.isContextLost() ? null : new TransferView(canvas, gl);
}

const sizeOfImage = (image) => ({
  width: image.naturalWidth || image.width,
  height: image.naturalHeight || image.height,
});

// {width, height, data} of the red of an image.
function redOf(image) {
  const { width, height } = sizeOfImage(image);
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  return { width, height, data: Uint8Array.from({ length: width * height }, (_, index) => pixels[4 * index]) };
}

class TransferView {
  #canvas;
  #gl;
  #programs = new Map(); // variants -> program
  #layers;
  #mixer;
  #photograph = null; // {image, size, texture}
  #tile = null; // {image, x, y, width, height, texture}
  #map = null; // {width, height, data, texture}
  #entries = [];
  #drawn = AT_REST;
  #listeners;

  constructor(canvas, gl) {
    this.#canvas = canvas;
    this.#gl = gl;
    this.#layers = new TransferLayers(gl);
    this.#mixer = new TransferMixer(gl);
    this.#program([]); // fails now if it fails
    this.#listeners = { webglcontextlost: (event) => event.preventDefault(), webglcontextrestored: () => this.#restore() };
    for (const [name, listener] of Object.entries(this.#listeners)) canvas.addEventListener(name, listener);
  }

  get canvasSize() {
    return { width: this.#canvas.width, height: this.#canvas.height };
  }

  // Of the photograph itself, by which zoom counts; the image on the card may be smaller. null: there is none yet.
  get photographSize() {
    return this.#photograph && this.#photograph.size;
  }

  // image: anything that WebGL takes, at most 2048 pixels a side. size: of the photograph, if the image is smaller.
  // A tile of the photograph before goes; a strength map stays.
  setPhotograph(image, size = sizeOfImage(image)) {
    this.setTile(null);
    if (this.#photograph) this.#gl.deleteTexture(this.#photograph.texture);
    this.#photograph = { image, size, texture: this.#uploadImage(image) };
  }

  // A part of the photograph with more detail: {image, x, y, width, height}, or null.
  setTile(tile) {
    if (this.#tile) this.#gl.deleteTexture(this.#tile.texture);
    this.#tile = tile && { ...tile, texture: this.#uploadImage(tile.image) };
  }

  // [{strength, transfer}]; a transfer is what parseTransfer gives, or null for no change. Only new ones are uploaded.
  setTransfers(entries) {
    this.#entries = entries;
    if (entries.length) this.#layers.set(entries);
  }

  // Shares of the overall strength, stretched over the photograph: an image (its red counts), or
  // {width, height, data: bytes}, which is copied, or null.
  setStrengthMap(map) {
    if (this.#map) this.#gl.deleteTexture(this.#map.texture);
    this.#map = map && { ...(map.data instanceof Uint8Array ? { ...map, data: map.data.slice() } : redOf(map)) };
    if (this.#map) this.#uploadMap();
  }

  // Change a part of the map: bytes of (height, width) at (x, y), in the map's pixels.
  updateStrengthMap(x, y, width, height, data) {
    const gl = this.#gl;
    for (let row = 0; row < height; row++)
      this.#map.data.set(data.subarray(row * width, (row + 1) * width), (y + row) * this.#map.width + x);
    gl.bindTexture(gl.TEXTURE_2D, this.#map.texture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, x, y, width, height, gl.RED, gl.UNSIGNED_BYTE, data);
  }

  // Draw now. zoom, centre: see view_place.js. show: "edit", "source", or "difference" as a heat map. split: column of
  // the canvas, 0 to 1, left of which is the untouched photograph; null: none. showsMap: the strength map in red.
  draw(options) {
    this.#drawn = { ...AT_REST, ...options };
    const { width, height } = this.#canvas;
    const rectangle = this.#photograph && rectangleOf(this.#drawn, this.canvasSize, this.#photograph.size);
    this.#render(this.#drawn, rectangle, { width, height, rows: [height, -1], framebuffer: null });
  }

  // Milliseconds that a draw takes until its picture is there: the median of so many. By it a page chooses its pixels.
  drawMilliseconds(options, draws = 3) {
    const times = Array.from({ length: draws }, () => {
      const start = performance.now();
      this.draw(options);
      this.#gl.readPixels(0, 0, 1, 1, this.#gl.RGBA, this.#gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits
      return performance.now() - start;
    });
    return times.sort((one, other) => one - other)[Math.floor(draws / 2)];
  }

  // A canvas with the whole picture, as large as fits into the given size.
  drawThumb(strength, width, height) {
    const whole = this.#photograph.size;
    const scale = fitZoom({ width, height }, whole);
    const thumb = document.createElement("canvas");
    [thumb.width, thumb.height] = [whole.width, whole.height].map((side) => Math.max(1, Math.round(scale * side)));
    const detail = this.#entries.map(({ transfer }) => transfer && transfer.detail).find(Boolean);
    const times = Math.ceil(Math.max(1, detail ? detail.width / thumb.width : 1)); // drawn larger, the detail is not aliased
    const large = { width: times * thumb.width, height: times * thumb.height };
    const picture = document.createElement("canvas");
    Object.assign(picture, large);
    const pixels = new ImageData(new Uint8ClampedArray(this.#read(large, { strength }).buffer), large.width);
    picture.getContext("2d").putImageData(pixels, 0, 0);
    const context = thumb.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, thumb.width, thumb.height);
    return thumb;
  }

  // RGBA bytes of the whole picture at the size of its image, top row first. options: as of draw; none: as drawn last.
  pixels(options = this.#drawn) {
    return this.#read(sizeOfImage(this.#photograph.image), options);
  }

  dispose() {
    const gl = this.#gl;
    for (const [name, listener] of Object.entries(this.#listeners)) this.#canvas.removeEventListener(name, listener);
    for (const held of [this.#photograph, this.#tile, this.#map]) if (held) gl.deleteTexture(held.texture);
    for (const { program } of this.#programs.values()) gl.deleteProgram(program);
    this.#layers.dispose();
    this.#mixer.dispose();
  }

  #restore() {
    this.#programs.clear();
    this.#layers = new TransferLayers(this.#gl);
    this.#mixer = new TransferMixer(this.#gl);
    this.setTransfers(this.#entries);
    for (const held of [this.#photograph, this.#tile]) if (held) held.texture = this.#uploadImage(held.image);
    if (this.#map) this.#uploadMap();
    this.draw(this.#drawn);
  }

  #uploadImage(image) {
    const gl = this.#gl;
    const texture = makeTexture(gl, gl.TEXTURE_2D, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    return texture;
  }

  #uploadMap() {
    const gl = this.#gl;
    const { width, height, data } = this.#map;
    this.#map.texture = makeTexture(gl, gl.TEXTURE_2D, gl.LINEAR);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, data);
  }

  #program(variants) {
    const key = variants.join();
    if (!this.#programs.has(key)) this.#programs.set(key, shaderProgram(this.#gl, FRAGMENT_SHADER, variants));
    return this.#programs.get(key);
  }

  // The whole picture in `size`, read back.
  #read(size, options) {
    const gl = this.#gl;
    const { width, height } = size;
    const target = gl.createFramebuffer();
    const texture = makeTexture(gl, gl.TEXTURE_2D, gl.NEAREST);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    const whole = { left: 0, top: 0, width, height };
    this.#render({ ...AT_REST, ...options }, whole, { width, height, rows: [0, 1], framebuffer: target });
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    const pixels = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.deleteFramebuffer(target);
    gl.deleteTexture(texture);
    return pixels;
  }

  // Draw into a framebuffer (null: the canvas). rectangle: of the photograph there. rows: of the shader.
  #render(options, rectangle, { width, height, rows, framebuffer }) {
    const gl = this.#gl;
    const isReady = rectangle && this.#entries.length && !gl.isContextLost();
    gl.disable(gl.DITHER);
    const neighbours = isReady && this.#layers.at(options.strength);
    const transfers = isReady && this.#transfers(neighbours, rectangle, width, framebuffer);
    gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
    gl.viewport(0, 0, width, height);
    if (!isReady) return gl.clear(gl.COLOR_BUFFER_BIT);
    const { program, location } = this.#program([...this.#variants(options), ...transfers.variants]);
    gl.useProgram(program);
    bindTextures(gl, location, this.#textures(transfers));
    this.#putPlaces(location, rectangle);
    const { strengths } = this.#layers;
    gl.uniform2f(location("rows"), ...rows);
    gl.uniform3f(location("neighbours"), ...neighbours);
    gl.uniform3f(location("strengths"), options.strength, strengths[0], strengths[strengths.length - 1]);
    gl.uniform1f(location("split"), options.show === "source" ? width : width * (options.split || 0));
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  // What the shader reads for a target with so many columns. Only for the canvas it pays to prepare all strengths.
  #transfers(neighbours, rectangle, columns, framebuffer) {
    if (!this.#map) return this.#mixer.mix(this.#layers, neighbours, rectangle, columns);
    if (framebuffer === null) return this.#mixer.prepare(this.#layers, rectangle, columns);
    return { affine: this.#layers.affine, detail: this.#layers.detail, variants: [] };
  }

  #putPlaces(location, { left, top, width, height }) {
    const gl = this.#gl;
    const level = (image, share) => Math.max(0, Math.log2(sizeOfImage(image).width / share / width) - SHARPER);
    const tile = this.#tile || { image: this.#photograph.image, x: 0, y: 0, width: 1, height: 1 };
    gl.uniform4f(location("place"), left, top, width, height);
    gl.uniform4f(location("tilePlace"), tile.x, tile.y, tile.width, tile.height);
    gl.uniform2f(location("levels"), level(this.#photograph.image, 1), level(tile.image, tile.width));
  }

  #variants(options) {
    const wanted = {
      TILE: this.#tile,
      STRENGTH_MAP: this.#map,
      DETAIL: this.#layers.detail,
      DIFFERENCE: options.show === "difference",
      SHOWN_MAP: this.#map && options.showsMap,
    };
    return Object.keys(wanted).filter((name) => wanted[name]);
  }

  #textures({ affine, detail }) {
    const gl = this.#gl;
    const flat = { photograph: this.#photograph, tile: this.#tile, strengthMap: this.#map };
    return [
      ...Object.entries(flat).map(([name, held]) => [name, gl.TEXTURE_2D, held && held.texture]),
      ["table", gl.TEXTURE_2D, this.#layers.table],
      ["affine", gl.TEXTURE_2D_ARRAY, affine],
      ["detail", gl.TEXTURE_2D_ARRAY, detail],
    ];
  }
}
