// "Use as source", and the history of this tab: its steps with pictures, undo and redo, and any two compared. A step is
// an edit as the slider left it ("edit"), or a result that has become the photograph of further edits ("source").
const STEP_MS = 700; // a picture that is seen for so long is the step's
const STEP_SIDE = 1280; // pixels of a step's picture
const STEP_THUMB = 96;
const USE_TITLE = "Make this picture, at full size, the photograph of further edits.";
const SOURCE_SAID = "This picture is the photograph now. Say what else to change and press Edit.";
const NO_PHOTOGRAPH = "The photograph of that step is gone from the server and from this browser.";
const HISTORY_PANEL = `<div class="steps-buttons">
  <button type="button" data-do="undo" title="Ctrl+Z">Undo</button>
  <button type="button" data-do="redo" title="Ctrl+Shift+Z">Redo</button></div>
  <ol class="steps" aria-label="Steps"></ol>
  <div class="steps-compare"><label>Compare <select data-side="0"></select></label>
  <label>with <select data-side="1"></select></label> <button type="button" data-do="compare">Show</button></div>`;
const COMPARE_DIALOG = `<form method="dialog"><button type="button" data-do="mode" aria-pressed="false">Switch</button>
  <button>Close</button></form><div class="pair"><figure><img alt=""><figcaption></figcaption></figure>
  <figure><img alt=""><figcaption></figcaption></figure></div>`;

class History {
  #steps = new Steps(kept().history);
  #panel = Object.assign(document.createElement("div"), { innerHTML: HISTORY_PANEL });
  #dialog = Object.assign(document.createElement("dialog"), { innerHTML: COMPARE_DIALOG, className: "compare-steps" });
  #source;
  #tool;
  #timer = 0;
  #isUsing = false; // a result is on its way to be the photograph
  #told = new Set(); // paths of those that the server has told of
  #isReturning = this.#steps.current !== null; // the next edit that begins is the current step's

  constructor() {
    this.#source = tools.add({ name: "source", label: "Use as source", title: USE_TITLE, press: () => this.#use() });
    const title = "The steps of this tab: go back, go on, compare.";
    this.#tool = tools.add({ name: "history", label: "History", title, panel: this.#panel });
    stage.append(this.#dialog);
    this.#panel.addEventListener("click", (event) => this.#press(event.target.closest("button")));
    this.#dialog.addEventListener("click", (event) => this.#switch(event.target));
    document.addEventListener("keydown", (event) => this.#key(event));
    stage.addEventListener("edit", ({ detail }) => this.#began(detail));
    stage.addEventListener("message", ({ detail }) => detail.source && this.#hear(detail.source));
    stage.addEventListener("shown", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#rested(), STEP_MS);
    });
    this.#draw();
  }

  // ---- recording

  #began({ key, inputs }) {
    this.#isUsing = false;
    if (!inputs.photograph) return; // what the page opens with
    const { list, current } = this.#steps;
    const isCurrent = current !== null && isSameEdit(current.inputs, inputs);
    const known = this.#isReturning ? list.find((step) => isSameEdit(step.inputs, inputs)) : null;
    const step = isCurrent ? current : known;
    if (step) Object.assign(step, { key, inputs });
    else this.#push({ kind: "edit", key, inputs, source: inputs.photograph });
    if (isCurrent || !step) this.#isReturning = false;
    this.#save();
  }

  #push(step) {
    const id = Date.now().toString(36) + Math.random().toString(36).slice(2);
    this.#steps.push({ id, strength: position(), thumb: "", ...step });
  }

  // The picture has not changed for a while: it is the current step's.
  async #rested() {
    const step = this.#steps.current;
    if (!step || step.kind !== "edit" || !isSameEdit(step.inputs, props.value.inputs) || shown === null) return;
    step.strength = position();
    await this.#keepPicture([step]);
  }

  // Keep what is seen as the picture of these steps.
  async #keepPicture(steps) {
    const large = picture.isDrawn ? picture.thumb(position(), STEP_SIDE) : shown.image;
    const [width, height] = [large.naturalWidth || large.width, large.naturalHeight || large.height];
    const scaled = (side) => {
      const scale = Math.min(1, side / Math.max(width, height));
      const canvas = Object.assign(document.createElement("canvas"), { width: scale * width, height: scale * height });
      canvas.getContext("2d").drawImage(large, 0, 0, canvas.width, canvas.height);
      return canvas;
    };
    const thumb = scaled(STEP_THUMB).toDataURL("image/jpeg", 0.8);
    const blob = await new Promise((resolve) => scaled(STEP_SIDE).toBlob(resolve, "image/webp", 0.9));
    for (const step of steps) {
      await keepStepPicture(step.id, blob).catch((error) => console.warn("A step's picture is not kept:", error));
      step.thumb = thumb;
    }
    this.#save();
  }

  async #use() {
    if (edit === 0) return;
    this.#isUsing = true;
    const painted = stage.strengthMap && (await stage.strengthMap());
    trigger("use", { edit, strength: position(), ...(painted && { strength_map: painted }) });
  }

  // Each message of an edit tells of its newest result that has become the photograph.
  #hear(file) {
    const isNew = !this.#told.has(file.path);
    this.#told.add(file.path);
    if (!isNew || !this.#isUsing) return;
    this.#isUsing = false;
    this.#adopted(file);
  }

  // A result has become the photograph in the upload.
  async #adopted(file) {
    const { key, inputs } = props.value;
    const photograph = inputs.photograph || window.firstPhotograph; // what the page opens with has no upload
    const before = { key, inputs: { ...inputs, photograph }, source: photograph };
    if (!this.#steps.current) this.#push({ kind: "edit", ...before }); // what the page opened with
    const edited = this.#steps.current;
    this.#push({ kind: "source", ...before, source: file.path });
    this.#save();
    sayConnection(SOURCE_SAID);
    const words = document.querySelector("#instruction textarea, #instruction input");
    if (words && matchMedia("(pointer: fine)").matches) words.focus(), words.select();
    const { current } = this.#steps;
    if (edited.kind === "edit") edited.strength = position();
    await this.#keepPicture(edited.kind === "edit" ? [edited, current] : [current]);
  }

  // ---- going back and on

  async #go(at) {
    const [before, step] = [this.#steps.at, this.#steps.list[at]];
    if (at === before || !step) return;
    this.#steps.at = at;
    const photograph = await this.#onServer(step.inputs.photograph);
    const source = await this.#onServer(step.source);
    if (this.#steps.at !== at) return; // gone further meanwhile
    if (!photograph || !source) {
      this.#steps.at = before;
      return sayConnection(NO_PHOTOGRAPH);
    }
    const { instruction, num_frames, seed, steps, guidance } = step.inputs;
    window.stepInputs = [source, instruction, num_frames, seed, steps, guidance];
    trigger("fill", {});
    if (JSON.stringify(step.inputs) === JSON.stringify(props.value.inputs)) move(step.strength);
    else this.#reopen(step);
    this.#save();
  }

  #reopen(step) {
    this.#isReturning = true;
    placeAt(step.strength);
    trigger("reopen", { key: step.key, ...step.inputs, is_step: true });
  }

  async #onServer(path) {
    const file = await photographOnServer(path);
    if (file && file.path !== path) this.#steps.rename(path, file.path);
    return file;
  }

  #key(event) {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || edit === 0 || event.defaultPrevented) return;
    const isRedo = event.key.toLowerCase() === "y" || (event.key.toLowerCase() === "z" && event.shiftKey);
    if (!isRedo && event.key.toLowerCase() !== "z") return;
    const isText = event.target.closest("textarea, [contenteditable=true], input:not([type=range], [type=checkbox])");
    if (isText || find('[data-tool="brush"][aria-expanded="true"]')) return; // these have their own
    event.preventDefault();
    this.#go(this.#steps.at + (isRedo ? 1 : -1));
  }

  // ---- the panel

  #press(button) {
    if (!button) return;
    const { at } = this.#steps;
    const going = { undo: at - 1, redo: at + 1 }[button.dataset.do] ?? button.dataset.step;
    if (button.dataset.do === "compare") this.#compare();
    else if (going !== undefined) this.#go(Number(going));
  }

  #save() {
    const { list, at } = this.#steps;
    keep({ history: { list, at } });
    this.#draw();
  }

  #draw() {
    const { list, at, canUndo, canRedo } = this.#steps;
    this.#tool.disable(list.length ? null : "There are no steps yet: press Edit.");
    this.#panel.querySelector("[data-do=undo]").disabled = !canUndo;
    this.#panel.querySelector("[data-do=redo]").disabled = !canRedo;
    const isInside = this.#panel.contains(document.activeElement) && document.activeElement.dataset.step;
    this.#panel.querySelector(".steps").replaceChildren(...list.map((step, place) => stepItem(step, place, place === at)));
    if (isInside) this.#panel.querySelector(`[data-step="${at}"]`).focus();
    for (const select of this.#panel.querySelectorAll("select")) this.#fillSelect(select, list);
    this.#panel.querySelector(".steps-compare").hidden = list.length < 2;
  }

  #fillSelect(select, list) {
    const fallback = list.length - 2 + Number(select.dataset.side);
    const chosen = list.findIndex(({ id }) => id === select.value);
    select.replaceChildren(...list.map((step, place) => new Option(place + 1 + " · " + stepText(step), step.id)));
    select.selectedIndex = select.dataset.wasChosen && chosen >= 0 ? chosen : Math.max(0, fallback);
    select.onchange = () => (select.dataset.wasChosen = "true");
  }

  async #compare() {
    const selects = [...this.#panel.querySelectorAll("select")];
    const figures = [...this.#dialog.querySelectorAll("figure")];
    for (const [place, select] of selects.entries()) {
      const step = this.#steps.list[select.selectedIndex];
      figures[place].querySelector("img").src = (await stepPicture(step.id)) || step.thumb;
      figures[place].querySelector("figcaption").textContent = select.selectedIndex + 1 + " · " + stepText(step);
    }
    this.#dialog.showModal();
  }

  // "Switch" shows one picture at a time; a click on it shows the other.
  #switch(target) {
    const pair = this.#dialog.querySelector(".pair");
    const button = target.closest("[data-do=mode]");
    if (button) button.setAttribute("aria-pressed", pair.toggleAttribute("data-one"));
    if (button || (pair.hasAttribute("data-one") && target.closest("figure"))) pair.toggleAttribute("data-second");
    if (target === this.#dialog) this.#dialog.close();
  }
}

function stepItem(step, place, isCurrent) {
  const button = Object.assign(document.createElement("button"), { type: "button", title: stepText(step) });
  button.dataset.step = place;
  if (isCurrent) button.setAttribute("aria-current", "step");
  if (step.thumb) button.append(Object.assign(new Image(), { src: step.thumb, alt: "" }));
  button.append(Object.assign(document.createElement("span"), { textContent: place + 1 + " · " + stepText(step) }));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

const tabHistory = new History();
