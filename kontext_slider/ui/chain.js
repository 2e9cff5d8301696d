// The list of edits, one after the other, each with its own slider. The picture's own slider is that of the last edit
// that is on. While another one is dragged, the browser composes: it draws the photograph with the first edit, that
// picture with the second, and so on. At rest the server computes the list for real, and the page shows that.
const MOST_LAYERS = 6;
const CHAIN_TITLE = "Edits one after the other, each with its own strength.";
const CHAIN_PANEL = `<ol class="layers" aria-label="Edits, the first one first"></ol>
  <form class="layer-add"><input type="text" maxlength="500" placeholder="Then … (make it snow)" aria-label="Another edit">
  <button>Add another edit</button></form>`;

class Chain {
  #panel = Object.assign(document.createElement("div"), { innerHTML: CHAIN_PANEL });
  #list = this.#panel.querySelector(".layers");
  #layers = []; // of the page's list, as LayerInputs (open_edit.py); that of the last that is on has the main slider
  #composer = new Composer();
  #isAsked = false; // the server computes a list
  #isDue = false; // the list has changed since
  #numRefused = 0; // lists that the server could not compute
  #isOther = false; // the picture is that of another list: others are on, or in other places
  #timer = 0;
  #tool;

  constructor() {
    const onOpen = () => this.#composer.prepare(this.#layers);
    this.#tool = tools.add({ name: "edits", label: "Edits", title: CHAIN_TITLE, panel: this.#panel, onOpen });
    this.#panel.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add(event.target.querySelector("input"));
    });
    this.#list.addEventListener("click", (event) => this.#press(event.target.closest("button, input[type=checkbox]")));
    this.#list.addEventListener("input", (event) => event.target.type === "range" && this.#slide(event.target));
    this.#list.addEventListener("change", (event) => event.target.type === "range" && this.#rest(event.target));
    stage.addEventListener("edit", ({ detail }) => this.#began(detail));
    stage.addEventListener("message", ({ detail }) => this.#received(detail));
    stage.addEventListener("shown", () => this.#follow());
  }

  // Place in the list of the edit that the picture's slider belongs to.
  get #top() {
    return this.#layers.findLastIndex((layer) => layer.is_on);
  }

  // What was painted for that edit before another one followed, "" for nothing.
  get topMap() {
    return this.#layers.length ? this.#layers[this.#top].strength_map : "";
  }

  // "composed" while the browser shows more than the server has computed, "computed" for a list that it has.
  get state() {
    if (this.#layers.filter((layer) => layer.is_on).length < 2) return "";
    return picture.isComposed || this.#isAsked ? "composed" : "computed";
  }

  // ---- messages of the server

  #began({ inputs, num_refused }) {
    this.#isAsked = false;
    this.#numRefused = num_refused;
    if (this.#isDue) return this.#send(); // the visitor has gone on: what is here is newer
    this.#isOther = false;
    const single = [{ instruction: inputs.instruction, strength: Math.min(1, position()), is_on: true, strength_map: "" }];
    this.#layers = inputs.layers.length ? inputs.layers.map((layer) => ({ ...layer })) : single;
    this.#drawRows();
  }

  #received(value) {
    this.#composer.use(value);
    if (!value.busy && this.#tool.isOpen) this.#composer.prepare(this.#layers);
    if (value.num_refused === this.#numRefused) return;
    this.#numRefused = value.num_refused;
    this.#isAsked = false;
    if (this.#isDue) this.#send();
    show();
  }

  // The picture's slider has moved: the last row shows it.
  #follow() {
    const layer = this.#layers[this.#top];
    if (!layer || this.#isAsked) return;
    layer.strength = Math.min(1, position());
    const row = this.#list.children[this.#top];
    if (row) showStrength(row, layer.strength);
  }

  // ---- what the visitor does

  async #add(input) {
    const words = input.value.trim();
    if (!words || edit === 0 || this.#layers.length >= MOST_LAYERS) return;
    await this.#keepMap();
    this.#layers.push({ instruction: words, strength: 1, is_on: true, strength_map: "" });
    input.value = "";
    this.#changed();
  }

  // A painted map goes with the edit that it was painted for, once another one follows.
  async #keepMap() {
    const layer = this.#layers[this.#top];
    if (layer) layer.strength_map = (stage.strengthMap && (await stage.strengthMap())) || "";
  }

  async #press(control) {
    const row = control && control.closest("li");
    if (!row) return;
    const place = [...this.#list.children].indexOf(row);
    const layers = this.#layers;
    const act = control.dataset.do;
    const isLastOn = layers[place].is_on && layers.filter((layer) => layer.is_on).length === 1;
    if (isLastOn && (act === "on" || act === "remove")) {
      this.#drawRows();
      return sayConnection("At least one edit stays on.");
    }
    await this.#keepMap();
    if (act === "remove") layers.splice(place, 1);
    else if (act === "on") layers[place].is_on = control.checked;
    else layers.splice(place + (act === "up" ? -1 : 1), 0, ...layers.splice(place, 1));
    this.#changed();
    const focus = this.#list.children[Math.min(place, layers.length - 1)];
    focus.querySelector("[data-do=" + act + "]:not(:disabled), input").focus();
  }

  #slide(range) {
    const place = [...this.#list.children].indexOf(range.closest("li"));
    const strength = Number(range.value);
    this.#layers[place].strength = strength;
    showStrength(range.closest("li"), strength);
    if (place === this.#top) return move(strength);
    if (this.#layers[place].is_on && !this.#isOther) this.#composer.compose(this.#layers);
  }

  #rest(range) {
    const place = [...this.#list.children].indexOf(range.closest("li"));
    if (place === this.#top || !this.#layers[place].is_on) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), REST_MS);
  }

  // The list itself has changed: the last edit that is on has the picture's slider now.
  #changed() {
    placeAt(this.#layers[this.#top].strength);
    this.#isOther = true;
    this.#drawRows();
    this.#ask();
  }

  #ask() {
    this.#isDue = true;
    if (!this.#isAsked) this.#send();
    show();
  }

  #send() {
    [this.#isAsked, this.#isDue] = [true, false];
    trigger("chain", { edit, layers: this.#layers });
  }

  #drawRows() {
    this.#list.replaceChildren(...this.#layers.map((layer, place) => layerRow(layer, place, this.#layers.length)));
    this.#panel.querySelector("form button").disabled = this.#layers.length >= MOST_LAYERS;
  }
}

function layerRow({ instruction, strength, is_on }, place, count) {
  const row = document.createElement("li");
  row.innerHTML = `<label><input type="checkbox" data-do="on"><span></span></label>
    <input type="range" min="0" max="1" step="0.01"><output></output>
    <button type="button" data-do="up" aria-label="Earlier" title="Earlier">↑</button>
    <button type="button" data-do="down" aria-label="Later" title="Later">↓</button>
    <button type="button" data-do="remove" aria-label="Remove" title="Remove">×</button>`;
  row.querySelector("span").textContent = instruction;
  row.querySelector("span").title = instruction;
  row.querySelector("[data-do=on]").checked = is_on;
  row.querySelector("[data-do=up]").disabled = place === 0;
  row.querySelector("[data-do=down]").disabled = place === count - 1;
  row.querySelector("[type=range]").setAttribute("aria-label", "Strength of " + instruction);
  row.toggleAttribute("data-off", !is_on);
  showStrength(row, strength);
  return row;
}

function showStrength(row, strength) {
  row.querySelector("[type=range]").value = strength;
  row.querySelector("[type=range]").style.setProperty("--done", strength);
  row.querySelector("output").textContent = rounded(strength);
}

const chain = new Chain();
