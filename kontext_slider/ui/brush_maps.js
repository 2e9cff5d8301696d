// Which map belongs to which photograph: another edit of the same photograph keeps what is painted, another photograph has
// its own. The newest one is kept in sessionStorage, so that a page that is loaded again has it.
const KEPT_MAP = "kontext-slider strength map"; // {photograph, map}
const MOST_MAPS = 4; // the maps of so many photographs are there, with undo, until the page is left

// What an edit stands on: an upload, and the edits before it in a list of edits.
function standingOn({ photograph, layers = [] }) {
  const before = layers.filter((layer) => layer.is_on).slice(0, -1);
  return photograph + before.map(({ instruction }) => ", after " + instruction.replaceAll(/[\\/]/g, " ")).join("");
}

// The folder and name of an upload: gradio names the folder after the content.
const nameOfUpload = (path) => path.split(/[\\/]/).slice(-2).join("/");

class BrushMaps {
  #maps = new Map(); // name of an upload -> its map, the newest last

  // The map of a photograph. size: {width, height} in pixels; known by the upload's path.
  of(path, size) {
    const name = nameOfUpload(path);
    const known = this.#maps.get(name);
    const { width, height } = mapSize(size);
    const map = known && known.width === width && known.height === height ? known : new StrengthMap({ width, height });
    this.#maps.delete(name);
    this.#maps.set(name, map);
    if (this.#maps.size > MOST_MAPS) this.#maps.delete(this.#maps.keys().next().value);
    return map;
  }

  async keep(path, map) {
    if (!map.isPainted) return sessionStorage.removeItem(KEPT_MAP);
    const kept = JSON.stringify({ photograph: nameOfUpload(path), map: await packMap(map) });
    sessionStorage.setItem(KEPT_MAP, kept);
  }

  // Give an untouched map what was kept of the photograph. Returns whether there was anything.
  async restore(path, map) {
    const kept = JSON.parse(sessionStorage.getItem(KEPT_MAP) || "null");
    return Boolean(kept) && kept.photograph === nameOfUpload(path) && (await this.load(kept.map, map));
  }

  // Give an untouched map the map of a file, as text, "" for none. Returns whether it has it.
  async load(text, map) {
    if (!text || map.isTouched) return false;
    const data = await unpackMap(text, map);
    if (map.isTouched) return false; // painted meanwhile
    map.load(data);
    return true;
  }
}
