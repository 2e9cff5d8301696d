// What the pointer draws on a map: strokes of the brush, and gradients that are pulled out. It shows the brush's outline.
const DAB_SPACING = 0.35; // of the radius, where the brush keeps to edges
const RING_MS = 900; // for so long the brush is shown in the middle of the picture when its size is changed elsewhere

class BrushDrawing {
  #tool;
  #marks = new BrushMarks(find(".overlay"));
  #from = null; // the last place of the stroke that is drawn, or where its gradient begins; the map's pixels
  #last = null; // where the last stroke ended: with Shift, the next one goes on from there
  #ahead = 0; // pixels to the next dab
  #isFree = false; // edges are left alone for this stroke
  #hasMoved = false; // the gradient that is drawn has a size

  // tool: isOn, map, settings, target(isOther) for this stroke, colours() (edge_aware.js), setGradient(values), changed(), put().
  constructor(tool) {
    this.#tool = tool;
  }

  get isOn() {
    return this.#tool.isOn;
  }

  get #isBrush() {
    return this.#tool.settings.shape === "brush";
  }

  // Another photograph.
  forget() {
    this.#last = null;
    this.hide();
  }

  hide() {
    this.#marks.hide();
  }

  // ---- what brush_pointer.js calls; points of the screen

  begin(point, { isOther, isJoined, isFree }) {
    const { map } = this.#tool;
    const place = this.#onMap(point);
    const isLine = this.#isBrush && isJoined && this.#last !== null;
    this.#from = isLine ? this.#last : place;
    [this.#ahead, this.#hasMoved, this.#isFree] = [0, false, isFree];
    map.begin(this.#tool.target(isOther));
    picture.setStrengthMap(map);
    if (this.#isBrush) this.move([point]);
  }

  move(points) {
    const last = points[points.length - 1];
    if (!this.#isBrush) return this.#pull(last);
    for (const point of points) this.#paint(this.#onMap(point));
    this.ring(last);
  }

  end() {
    if (!this.#isBrush && !this.#hasMoved) return this.cancel();
    this.#tool.map.end();
    if (this.#isBrush) this.#last = this.#from;
    this.#tool.changed(!this.#isBrush);
  }

  cancel() {
    this.#tool.map.cancel();
    this.#tool.put();
  }

  hover(point) {
    if (point && this.#isBrush) this.ring(point);
    else this.hide();
  }

  // ----

  #paint(to) {
    const { size, softness, followsEdges } = this.#tool.settings;
    const radius = (size * this.#side) / 2;
    if (!followsEdges || this.#isFree) this.#cover((coverage) => coverLine(coverage, this.#from, to, radius, softness));
    else {
      const spacing = Math.max(1, DAB_SPACING * radius);
      const { dabs, ahead } = dabsAlong(this.#from, to, spacing, this.#ahead);
      const colours = this.#tool.colours();
      for (const dab of dabs) this.#cover((coverage) => coverToEdges(coverage, colours, dab, radius, softness));
      this.#ahead = ahead;
    }
    this.#from = to;
  }

  #cover(draw) {
    const { map } = this.#tool;
    const rectangle = map.cover(draw);
    const { x, y, width, height } = rectangle;
    if (width > 0 && height > 0) picture.updateStrengthMap(x, y, width, height, map.part(rectangle));
  }

  #pull(point) {
    const { map, settings } = this.#tool;
    const [from, to] = [this.#from, this.#onMap(point)];
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = Math.hypot(dx, dy);
    if (length < 1) return;
    this.#hasMoved = true;
    const isLinear = settings.shape === "linear";
    const middle = isLinear ? { x: from.x + dx / 2, y: from.y + dy / 2 } : from;
    const angle = ((Math.atan2(dy, dx) * 180) / Math.PI + 360) % 360;
    this.#tool.setGradient({
      x: middle.x / map.width,
      y: middle.y / map.height,
      size: ((isLinear ? 1 : 2) * length) / this.#side,
      ...(isLinear && { angle }),
    });
    this.#cover((coverage) => coverGradient(coverage, this.#tool.settings));
    const start = picture.screenAt(from.x / map.width, from.y / map.height);
    if (isLinear) this.#marks.line(start, [point.x, point.y]);
    else this.ring({ x: start[0], y: start[1] });
  }

  // ---- places

  get #side() {
    return Math.max(this.#tool.map.width, this.#tool.map.height);
  }

  #onMap({ x, y, pressure }) {
    const { width, height } = this.#tool.map;
    const [right, down] = picture.placeAt(x, y);
    return { x: right * width, y: down * height, pressure };
  }

  // The outline of the brush about a place of the screen, as large as it is at this zoom.
  ring({ x, y }, milliseconds = 0) {
    if (!this.isOn) return;
    const { size, softness, mode } = this.#tool.settings;
    const [left, right] = [picture.screenAt(0, 0)[0], picture.screenAt(1, 0)[0]];
    const radius = ((size * this.#side) / 2) * ((right - left) / this.#tool.map.width);
    this.#marks.isErasing = mode === "erase";
    this.#marks.circle([x, y], radius, radius * (1 - softness), milliseconds);
  }

  // The same in the middle of the picture, for a moment.
  showSize() {
    const box = picture.canvas.getBoundingClientRect();
    if (this.#isBrush) this.ring({ x: box.left + box.width / 2, y: box.top + box.height / 2 }, RING_MS);
  }
}
