// What is drawn over the picture while painting: the outline of the brush, and the place of a gradient.
const SVG = "http://www.w3.org/2000/svg";

class BrushMarks {
  #overlay;
  #svg = document.createElementNS(SVG, "svg");
  #timer = 0;

  // overlay: an element that lies over the picture and takes no pointer.
  constructor(overlay) {
    this.#overlay = overlay;
    this.#svg.classList.add("marks");
    this.#svg.setAttribute("aria-hidden", "true");
    overlay.append(this.#svg);
  }

  // A round brush: middle [x, y] on the screen, radius, and that of the part that softness leaves whole; pixels.
  // milliseconds: for how long; without, until something else is shown.
  circle([x, y], radius, inner, milliseconds = 0) {
    const circles = [radius, inner].filter((each) => each > 3).map((r) => this.#mark("circle", { cx: 0, cy: 0, r }));
    const cross = this.#mark("path", { d: "M-3 0H3M0-3V3" });
    this.#show([x, y], [...circles, ...(inner > 8 || radius <= 3 ? [cross] : [])], milliseconds);
  }

  // A linear gradient between two places on the screen.
  line(from, to) {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const [across, down] = [-dy, dx].map((each) => (24 * each) / Math.max(1, Math.hypot(dx, dy)));
    const bar = (x, y) => `M${x - across} ${y - down}L${x + across} ${y + down}`;
    this.#show(from, [this.#mark("path", { d: `M0 0L${dx} ${dy}${bar(0, 0)}${bar(dx, dy)}` })], 0);
  }

  // Dashed while erasing.
  set isErasing(isOn) {
    this.#svg.classList.toggle("erasing", isOn);
  }

  hide() {
    clearTimeout(this.#timer);
    this.#svg.replaceChildren();
  }

  #mark(name, attributes) {
    const mark = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) mark.setAttribute(key, value);
    return mark;
  }

  #show([x, y], marks, milliseconds) {
    const box = this.#overlay.getBoundingClientRect();
    const group = this.#mark("g", { transform: `translate(${x - box.left} ${y - box.top})` });
    group.append(...marks);
    this.hide();
    this.#svg.append(group);
    if (milliseconds) this.#timer = setTimeout(() => this.hide(), milliseconds);
  }
}
