// Draws a list of edits without the server: each edit below the last on a canvas of its own, which is the photograph of
// the next. The transfers of an edit are those of where the edits before it stood when it was computed.
const COMPOSED_SIDE = 2048; // pixels of a picture in between, where the view is zoomed in; else as many as are seen

class Composer {
  #base = null; // {url, image}: the photograph of the first edit
  #below = []; // {place, frames, transfers: Map of an address -> entry, map, view, canvas, source}
  #due = null; // the layers to compose with the next animation frame
  #loading = null;

  // A message of the server: which edits stand below, and their frames.
  use({ base, below }) {
    const edits = base && picture.canDraw ? below : [];
    if (edits.length && (this.#base === null || this.#base.url !== base.url)) this.#base = { url: base.url, image: null };
    for (const { view } of this.#below.splice(edits.length)) if (view) view.dispose();
    edits.forEach(({ place, frames }, number) => {
      const each = (this.#below[number] ||= { transfers: new Map(), view: null, canvas: null, source: null, map: null });
      Object.assign(each, { place, frames });
      const urls = new Set(frames.map(({ transfer }) => transfer && transfer.url));
      for (const url of each.transfers.keys()) if (!urls.has(url)) each.transfers.delete(url);
    });
    this.#loading = null;
  }

  // Fetch what drawing these layers needs, unless it is here or on its way.
  prepare(layers) {
    if (this.#below.length) this.#loading ||= this.#load(layers);
    return this.#loading;
  }

  // Draw the picture with the strengths of these layers, as soon as what that needs is here.
  async compose(layers) {
    const serial = edit;
    if (!this.#below.length) return;
    await this.prepare(layers);
    if (serial !== edit) return; // it is computed by now
    const isDue = this.#due !== null;
    this.#due = layers;
    if (isDue) return;
    requestAnimationFrame(() => {
      const due = this.#due;
      this.#due = null;
      const isReady = serial === edit && this.#below.every(({ transfers }) => transfers.size > 0);
      if (picture.isDrawn && isReady && this.#base.image) this.#draw(due);
      show();
    });
  }

  async #load(layers) {
    const base = this.#base;
    const isWanted = () => this.#base === base;
    const image = new Image();
    if (!base.image && (await decoded(image, base.url, isWanted))) base.image = image;
    for (const each of this.#below) {
      const { strength_map: map } = layers[each.place] || {};
      each.map = map ? new Image() : null;
      if (map) await decoded(each.map, "data:image/png;base64," + map, isWanted);
      for (const { strength, transfer } of each.frames) {
        if (!transfer || each.transfers.has(transfer.url)) continue;
        const response = await fetched(transfer.url, isWanted);
        if (response) each.transfers.set(transfer.url, { strength, transfer: parseTransfer(await response.arrayBuffer()) });
      }
      if (each.view) this.#fill(each);
    }
  }

  #fill({ view, transfers, map }) {
    const edited = [...transfers.values()].sort((one, other) => one.strength - other.strength);
    view.setTransfers([{ strength: 0, transfer: null }, ...edited]);
    view.setStrengthMap(map);
  }

  #draw(layers) {
    let image = this.#base.image;
    for (const each of this.#below) {
      if (!each.view) {
        each.canvas = document.createElement("canvas");
        each.view = makeTransferView(each.canvas);
        this.#fill(each);
      }
      this.#resize(each.canvas, sizeOfImage(image));
      if (each.source !== image || image !== this.#base.image) each.view.setPhotograph(image);
      each.source = image;
      each.view.draw({ strength: layers[each.place].strength });
      image = each.canvas;
    }
    picture.compose(image);
  }

  #resize(canvas, { width, height }) {
    const seen = picture.place.zoom === "fit" ? picture.view.canvasSize : { width: COMPOSED_SIDE, height: COMPOSED_SIDE };
    const scale = Math.min(1, Math.max(seen.width / width, seen.height / height));
    const size = { width: Math.round(scale * width), height: Math.round(scale * height) };
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
  }
}
