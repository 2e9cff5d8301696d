// The large picture. Where the browser can draw (transfer_view.js), it shows the photograph with the edit at any
// strength, at the size of the screen; elsewhere the frames of the model as they are. Given by keep.js: fetched, decoded.
const TILE_SIDE = 2048; // pixels of the photograph that may be fetched at its own size
const TILE_MS = 250; // a view that has not moved for so long gets its tile
const WHOLE = { zoom: "fit", centre: [0.5, 0.5] };
const MOST_PIXELS = 2560 * 1600; // of the canvas: more would be slow on a screen of high density

class Picture {
  #holder;
  #canvas = document.createElement("canvas");
  #view;
  #transfers = new Map(); // key of a strength -> {strength, transfer}
  #photograph = null; // {url, image, size}; the image is null until it is decoded
  #strength = 1;
  #look = {}; // of the view's draw options: show, split
  #place = WHOLE;
  #askTile;
  #onPlace;
  #onPhotograph;
  #isPainted = false; // there is a strength map
  #showsMap = false;
  #tileTimer = 0;
  #tileUrl = ""; // of the tile that is shown or on its way
  #gestures;
  #isComposed = false; // what is drawn stands on a picture that the browser has made
  #isDue = false; // a draw is due with the next animation frame

  // askTile([left, top, right, bottom]) asks the server for a part of the photograph. onPlace() is called when the
  // photograph's place on the screen changes, onPhotograph() when that of a new edit is about to be drawn.
  constructor(holder, { askTile, onPlace = () => {}, onPhotograph = () => {} }) {
    this.#holder = holder;
    this.#askTile = askTile;
    [this.#onPlace, this.#onPhotograph] = [onPlace, onPhotograph];
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "img");
    this.#view = makeTransferView(this.#canvas);
    if (this.#view === null) return;
    this.#gestures = attachGestures(this.#canvas, this.#view, (place) => this.#moved(place));
    new ResizeObserver(() => this.#fit()).observe(holder);
  }

  get canDraw() {
    return this.#view !== null;
  }

  // Whether the edit's photograph is here or on its way, which is what is shown at strength 0.
  get hasPhotograph() {
    return this.canDraw && this.#photograph !== null;
  }

  // Whether any strength can be drawn: there is the photograph, and an edit of it.
  get isDrawn() {
    return this.canDraw && Boolean(this.#photograph && this.#photograph.image) && this.#transfers.size > 0;
  }

  get place() {
    return this.#place;
  }

  get view() {
    return this.#view;
  }

  get gestures() {
    return this.#gestures;
  }

  get canvas() {
    return this.#canvas;
  }

  get isPainted() {
    return this.#isPainted && this.isDrawn;
  }

  // The place of the photograph, [0, 1] within it, at a place of the screen, and the other way round.
  placeAt(x, y) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const canvas = this.#view.canvasSize;
    const pixel = [((x - left) * canvas.width) / width, ((y - top) * canvas.height) / height];
    return photographAt(this.#place, pixel, canvas, this.#view.photographSize);
  }

  screenAt(x, y) {
    const box = this.#canvas.getBoundingClientRect();
    const canvas = this.#view.canvasSize;
    const { left, top, width, height } = rectangleOf(this.#place, canvas, this.#view.photographSize);
    return [
      box.left + ((left + x * width) * box.width) / canvas.width,
      box.top + ((top + y * height) * box.height) / canvas.height,
    ];
  }

  // What is drawn of the edit: {show: "edit", "source" or "difference", split}, see the view's draw.
  look(options) {
    this.#look = options;
    this.#draw();
  }

  // A map of shares of the strength, or null (the view's setStrengthMap).
  setStrengthMap(map) {
    this.#isPainted = map !== null;
    this.#view.setStrengthMap(map);
    this.#draw();
  }

  // A part of the map (the view's updateStrengthMap).
  updateStrengthMap(...part) {
    this.#view.updateStrengthMap(...part);
    this.#draw();
  }

  // Whether the map itself is seen over the picture.
  showMap(isOn) {
    this.#showsMap = isOn;
    this.#draw();
  }

  // The photograph's pixels in another size: {width, height, data: RGBA bytes}.
  photographPixels({ width, height }) {
    const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#photograph.image, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }

  // Draw another picture in the photograph's place, until there is a new photograph; null: the photograph itself.
  compose(image) {
    this.#isComposed = image !== null;
    this.#view.setPhotograph(image || this.#photograph.image, this.#photograph.size);
    this.#draw();
  }

  get isComposed() {
    return this.#isComposed;
  }

  // A new edit. What is drawn stays until the new one can be.
  begin() {
    this.#transfers = new Map();
    this.#photograph = null;
    this.#tileUrl = "";
  }

  // Fetch the photograph of the edit, once. url: as any browser shows it; size: its own. false: it could not be had.
  async usePhotograph(url, size) {
    if (!this.canDraw || (this.#photograph && this.#photograph.url === url)) return false;
    const wanted = (this.#photograph = { url, image: null, size: { width: size[0], height: size[1] } });
    const image = new Image();
    const isHere = await decoded(image, url, () => this.#photograph === wanted);
    if (!isHere || this.#photograph !== wanted) return false;
    wanted.image = image;
    this.#refresh(true);
    return true;
  }

  // Fetch the transfer of a finished frame. false: it could not be had or read, or a new edit has begun.
  async useTransfer(strength, url) {
    const transfers = this.#transfers;
    const response = await fetched(url, () => this.#transfers === transfers);
    if (!response) return false;
    let transfer;
    try {
      transfer = parseTransfer(await response.arrayBuffer());
    } catch (error) {
      console.info("A transfer is cut short or damaged:", url, error.message);
      return false;
    }
    if (this.#transfers !== transfers) return false;
    transfers.set(strength, { strength, transfer });
    this.#refresh(false);
    return true;
  }

  // A part of the photograph at its own size has come.
  async useTile({ file, x, y, width, height }) {
    if (!this.canDraw || this.#tileUrl === file.url) return;
    this.#tileUrl = file.url;
    const image = new Image();
    if (!(await decoded(image, file.url, () => this.#tileUrl === file.url))) return;
    this.#view.setTile({ image, x, y, width, height });
    this.#draw();
  }

  // Show the edit at a strength; needs isDrawn.
  show(strength, description) {
    this.#strength = strength;
    this.#canvas.setAttribute("aria-label", description);
    if (this.#holder.firstElementChild !== this.#canvas) this.#holder.replaceChildren(this.#canvas);
    this.#fit();
    this.#draw();
  }

  // Show a frame of the model as it is.
  showFrame(image) {
    if (this.#holder.firstElementChild !== image) this.#holder.replaceChildren(image);
  }

  // A small canvas with the whole picture at a strength; needs isDrawn.
  thumb(strength, side) {
    return this.#view.drawThumb(strength, side, side);
  }

  #refresh(isNewPhotograph) {
    if (!this.isDrawn) return;
    if (isNewPhotograph || this.#transfers.size === 1) this.#setPhotograph();
    const untouched = { strength: 0, transfer: null };
    const edited = [...this.#transfers.values()].sort((one, other) => one.strength - other.strength);
    this.#view.setTransfers([untouched, ...edited]);
    this.#draw();
  }

  // The zoom stays for another edit of a photograph of this size, whose tile is fetched again.
  #setPhotograph() {
    const { image, size } = this.#photograph;
    const before = this.#view.photographSize;
    const isSameSize = before !== null && before.width === size.width && before.height === size.height;
    this.#isComposed = false;
    this.#view.setPhotograph(image, size);
    this.#tileUrl = "";
    this.#onPhotograph();
    this.#canvas.style.aspectRatio = size.width + " / " + size.height;
    this.#gestures.set(isSameSize ? this.#place : WHOLE);
  }

  // A canvas of another size is empty: it keeps its size, stretched, while there is nothing to draw.
  #fit() {
    if (!this.#canvas.isConnected || !this.isDrawn || !fitPixels(this.#canvas, MOST_PIXELS)) return;
    this.#draw();
    this.#onPlace();
  }

  #draw() {
    if (this.#isDue || !this.isDrawn) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      const look = { ...this.#look, showsMap: this.#showsMap };
      if (this.isDrawn) this.#view.draw({ strength: this.#strength, ...look, ...this.#place });
    });
  }

  #moved(place) {
    this.#place = place;
    this.#draw();
    this.#onPlace();
    clearTimeout(this.#tileTimer);
    this.#tileTimer = setTimeout(() => this.#needTile(), TILE_MS);
  }

  // Ask for what is seen at the photograph's own size, where the image on the card has less.
  #needTile() {
    if (!this.isDrawn || this.#place.zoom === "fit") return;
    const { image, size } = this.#photograph;
    if (image.naturalWidth >= size.width || this.#place.zoom <= image.naturalWidth / size.width) return;
    this.#askTile(visibleBox(this.#place, this.#view.canvasSize, size, TILE_SIDE));
  }
}

// [left, top, right, bottom] in whole pixels of the photograph: what is seen, at most `most` a side about its middle.
function visibleBox(place, canvas, photograph, most) {
  const corner = photographAt(place, [0, 0], canvas, photograph);
  const opposite = photographAt(place, [canvas.width, canvas.height], canvas, photograph);
  const span = (low, high, side) => {
    const middle = ((low + high) / 2) * side;
    const half = Math.min(((high - low) / 2) * side, most / 2);
    return [Math.max(0, Math.floor(middle - half)), Math.min(side, Math.floor(middle + half))];
  };
  const [left, right] = span(corner[0], opposite[0], photograph.width);
  const [top, bottom] = span(corner[1], opposite[1], photograph.height);
  return [left, top, right, bottom];
}

// How wrong an interpolation at `strength` may be, in levels: gaps are {low, high, error}, error the most inside.
function interpolationError(gaps, strength) {
  const gap = gaps.find(({ low, high }) => low < strength && strength < high);
  if (!gap) return 0;
  const part = (strength - gap.low) / (gap.high - gap.low);
  return 4 * part * (1 - part) * gap.error;
}
