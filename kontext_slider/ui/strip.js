// The strip of thumbs below the slider, and the ticks under it: which frames there are.
const THUMB_SIDE = 128; // pixels

class Strip {
  #thumbs;
  #ticks;
  #pick;
  #shareOf = (strength) => strength;

  // pick(strength) is called for a click on a thumb.
  constructor(thumbs, ticks, pick) {
    [this.#thumbs, this.#ticks, this.#pick] = [thumbs, ticks, pick];
  }

  // Empty thumbs for a new edit.
  begin(strengths) {
    this.#ticks.replaceChildren();
    this.spread(strengths);
  }

  // Thumbs of other strengths, without their pictures; the ticks stay.
  spread(strengths) {
    this.#thumbs.replaceChildren(...strengths.map((strength) => this.#thumb(strength)));
  }

  // Put the ticks where strengths are on the slider. shareOf(strength): of its length.
  place(shareOf) {
    this.#shareOf = shareOf;
    for (const tick of this.#ticks.children) tick.style.setProperty("--at", shareOf(Number(tick.dataset.strength)));
  }

  // A frame is finished; image: its picture, where frames are shown as they are, else null.
  add(strength, image) {
    const tick = this.#ticks.appendChild(document.createElement("i"));
    tick.dataset.strength = strength;
    tick.style.setProperty("--at", this.#shareOf(strength));
    this.fill(strength, image);
  }

  // The picture of a thumb, if there is one.
  fill(strength, image) {
    const thumb = [...this.#thumbs.children].find((each) => each.dataset.strength === key(strength));
    if (!thumb || image === null) return;
    thumb.prepend(image.cloneNode());
    thumb.classList.add("ready");
  }

  // Thumbs of a drawn edit: all of them, as soon as any strength can be drawn; better ones with every frame.
  // drawn(strength, side): a canvas. all: also those that are finished already.
  draw(drawn, all = false) {
    for (const thumb of this.#thumbs.children) {
      if (thumb.dataset.state === "exact" && !all) continue;
      const strength = Number(thumb.dataset.strength);
      thumb.dataset.state = finished(strength) ? "exact" : "interpolated";
      thumb.querySelectorAll("canvas, img").forEach((old) => old.remove());
      thumb.prepend(drawn(strength, THUMB_SIDE));
      thumb.classList.add("ready");
    }
  }

  // The thumb of a strength is current; null: none is.
  mark(strength) {
    const strip = this.#thumbs;
    for (const thumb of strip.children) {
      const isCurrent = strength !== null && thumb.dataset.strength === key(strength);
      if (isCurrent === thumb.hasAttribute("aria-current")) continue;
      if (isCurrent) thumb.setAttribute("aria-current", "true");
      else thumb.removeAttribute("aria-current");
      const middle = (strip.clientWidth - thumb.clientWidth) / 2;
      if (isCurrent) strip.scrollLeft = thumb.offsetLeft - strip.offsetLeft - middle;
    }
  }

  #thumb(strength) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumb";
    button.dataset.strength = key(strength);
    button.setAttribute("aria-label", "Strength " + rounded(strength));
    button.appendChild(document.createElement("span")).textContent = strength.toFixed(2);
    button.addEventListener("click", () => this.#pick(strength));
    return button;
  }
}
