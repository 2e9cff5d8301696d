// How strengths lie along the slider, and a strength as a person types it. Pure; the server measures curves
// (engine/response.py): {strengths, changes}, ascending, where changes is how far the picture has changed up to there.

// The value at `at` of the straight lines through the points (xs, ys); xs do not fall.
function interpolated(xs, ys, at) {
  const last = xs.length - 1;
  if (at <= xs[0]) return ys[0];
  if (at >= xs[last]) return ys[last];
  const next = xs.findIndex((x) => x > at);
  const part = (at - xs[next - 1]) / (xs[next] - xs[next - 1]);
  return ys[next - 1] + part * (ys[next] - ys[next - 1]);
}

const roundTo = (value, digits) => Number(value.toFixed(digits));

// Positions are what a range input counts, from 0 to `highest`, the strength at its right end. With even steps a
// position's share of that is a share of the change; else it is the strength itself.
class Scale {
  highest = 1;
  curve = null;
  wantsEven = false;

  // Whether steps are even: they are wanted, and the whole slider has been measured.
  get isEven() {
    const { curve } = this;
    if (!this.wantsEven || curve === null || curve.is_flat) return false;
    return curve.strengths[0] === 0 && curve.strengths[curve.strengths.length - 1] === this.highest;
  }

  // Two digits; four where steps are even, as much may change between two of fewer.
  strengthAt(position) {
    if (!this.isEven) return roundTo(position, 2);
    return roundTo(interpolated(this.curve.changes, this.curve.strengths, (position / this.highest) * this.#change), 4);
  }

  positionOf(strength) {
    if (!this.isEven) return strength;
    return (interpolated(this.curve.strengths, this.curve.changes, strength) / this.#change) * this.highest;
  }

  // Of the slider's length, 0 to 1.
  shareOf(strength) {
    return this.positionOf(strength) / this.highest;
  }

  // `count` strengths from 0 to 1 at equal steps of the change up to 1, to four decimals, as the server has them.
  evenStrengths(count) {
    const { strengths, changes } = this.curve;
    const whole = interpolated(strengths, changes, 1);
    const at = (k) => interpolated(changes, strengths, (k / (count - 1)) * whole);
    return Array.from({ length: count }, (_, k) => (k === 0 ? 0 : k === count - 1 ? 1 : roundTo(at(k), 4)));
  }

  get #change() {
    return this.curve.changes[this.curve.changes.length - 1];
  }
}

// A strength for people: two digits, and more only where there are more.
const strengthText = (strength) => Number(strength).toFixed(4).replace(/0{1,2}$/, "");

// The number that a person has typed: 0.45, ".45", "0,45", "45 %". NaN for anything else.
function typedStrength(text) {
  const [, digits, percent] = text.trim().match(/^(\d*[.,]?\d*)\s*(%?)$/) || [];
  if (!digits || !/\d/.test(digits)) return NaN;
  return Number(digits.replace(",", ".")) / (percent ? 100 : 1);
}

// The strength as a number that can be typed. move(strength) is called with a new one; say(sentence) with what is wrong.
class StrengthInput {
  #input;
  #scale;
  #move;
  #say;
  #strength = 1;

  constructor(input, scale, { move, say }) {
    [this.#input, this.#scale, this.#move, this.#say] = [input, scale, move, say];
    input.addEventListener("focus", () => input.select());
    input.addEventListener("blur", () => this.#commit());
    input.addEventListener("keydown", (event) => this.#key(event));
  }

  show(strength) {
    this.#strength = strength;
    if (document.activeElement !== this.#input) this.#input.value = strengthText(strength);
  }

  #key(event) {
    const step = { ArrowUp: 0.01, ArrowDown: -0.01 }[event.key];
    if (step) this.#take(Math.min(this.#scale.highest, Math.max(0, roundTo(this.#strength + step, 4))));
    else if (event.key === "Enter") this.#commit();
    else if (event.key === "Escape") this.#take(this.#strength);
    else return;
    event.preventDefault();
    this.#input.select();
  }

  #commit() {
    const text = this.#input.value;
    if (text.trim() === strengthText(this.#strength)) return;
    const strength = typedStrength(text);
    const isGood = strength >= 0 && strength <= this.#scale.highest;
    if (!isGood && text.trim()) this.#say(this.#refusal(text.trim()));
    this.#take(isGood ? roundTo(strength, 4) : this.#strength);
  }

  #take(strength) {
    if (strength !== this.#strength) this.#move(strength);
    this.#strength = strength;
    this.#input.value = strengthText(strength);
  }

  #refusal(text) {
    const range = "A strength is a number from 0 (untouched) to 1 (fully edited)";
    const beyond = this.#scale.highest > 1 ? `, or up to ${this.#scale.highest} beyond full` : "";
    return `${range}${beyond}, not “${text.slice(0, 20)}”. It stays at ${strengthText(this.#strength)}.`;
  }
}
