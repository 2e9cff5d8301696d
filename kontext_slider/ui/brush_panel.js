// The panel of the brush: buttons, sliders, a hint. It shows what it is told and says what is pressed; it knows no map.
// Sizes are diameters as shares of the photograph's longer side, from LEAST_SIZE to MOST_SIZE.
const [LEAST_SIZE, MOST_SIZE] = [0.01, 2.5];
const SIZE_STEPS = 100; // of the slider: equal steps are equal ratios
const SHAPES = { brush: "Brush", linear: "Linear", radial: "Radial" };
const TOGGLES = {
  followsEdges: ["Edges", "Follow edges: a stroke stays on what lies under the middle of the brush (E; Ctrl: not for one stroke)"],
  showsMap: ["Map", "Show the map: in red what is painted (O)"],
};
const GRADIENTS = ["linear", "radial"];
const MODES = { paint: "Paint", erase: "Erase" };
const arrow = (path) =>
  `<svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.6"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="${path}"></path></svg>`;
const ICONS = { undo: arrow("M6 3 2.5 6.5 6 10M3 6.5h6.5a3.5 3.5 0 0 1 0 7H7"), redo: arrow("M10 3l3.5 3.5L10 10M13 6.5H6.5a3.5 3.5 0 0 0 0 7H9") };
const COMMANDS = {
  place: ["Place", "Place a gradient: afterwards the sliders move it"],
  undo: ["Undo", "Undo (Ctrl+Z)"],
  redo: ["Redo", "Redo (Ctrl+Shift+Z)"],
  fill: ["Fill", "Fill: the whole picture gets the amount; with Erase, nothing of the edit"],
  invert: ["Invert", "Invert: swap what is edited and what is not"],
  clear: ["Clear", "Clear all paint: the edit is everywhere again"],
};
const percent = (share) => Math.round(100 * share) + " %";
const ARROWS = ["→", "↘", "↓", "↙", "←", "↖", "↑", "↗"];
const directionText = (angle) => ARROWS[Math.round(angle / 45) % 8] + " " + Math.round(angle) + "°";
const HINTS = {
  brush: "The first stroke paints the edit onto the untouched picture; the first Erase takes it from the whole edit.",
  edges: "Keep the middle of the brush on what you want.",
  linear: "Drag from where the edit is to where it ends.",
  radial: "Drag from the middle outwards.",
};

// name: [label, shapes that have it, slider's range and step, text of a value]
const BRUSH_SLIDERS = {
  size: ["Size", Object.keys(SHAPES), [0, SIZE_STEPS, 1], percent],
  softness: ["Softness", ["brush", "radial"], [0, 1, 0.05], percent],
  amount: ["Amount", Object.keys(SHAPES), [0.05, 1, 0.05], percent],
  x: ["Across", GRADIENTS, [0, 1, 0.01], percent],
  y: ["Down", GRADIENTS, [0, 1, 0.01], percent],
  angle: ["Direction", ["linear"], [0, 345, 15], directionText],
};

const sizeAt = (step) => LEAST_SIZE * (MOST_SIZE / LEAST_SIZE) ** (step / SIZE_STEPS);
const stepOf = (size) => (SIZE_STEPS * Math.log(size / LEAST_SIZE)) / Math.log(MOST_SIZE / LEAST_SIZE);

class BrushPanel {
  element = document.createElement("div");
  #set;
  #sliders = {}; // name -> {row, input, output}
  #hint = document.createElement("p");

  // set(name, value) is called for a changed setting, press(name) for a pressed command.
  constructor(set, press) {
    this.#set = set;
    this.element.className = "brush";
    const [shapes, modes] = [this.#choice("Shape", "shape", SHAPES), this.#choice("Mode", "mode", MODES)];
    const commands = this.#group("Commands", "commands");
    for (const [name, [label, title]] of Object.entries(COMMANDS))
      this.#button(commands, { command: name }, label, () => press(name), title);
    for (const [name, [label, title]] of Object.entries(TOGGLES)) {
      const isOn = () => this.#find("toggle", name).getAttribute("aria-pressed") === "true";
      this.#button(commands, { toggle: name }, label, () => set(name, !isOn()), title);
    }
    for (const [name, icon] of Object.entries(ICONS)) commands.querySelector(`[data-command=${name}]`).innerHTML = icon;
    const sliders = this.#group("Settings", "sliders");
    for (const name of Object.keys(BRUSH_SLIDERS)) this.#slider(sliders, name);
    this.#hint.className = "hint";
    this.element.append(shapes, modes, commands, sliders, this.#hint);
  }

  // settings: shape, mode, those that are on or off, and the sliders' values. state: canUndo, canRedo, isPainted.
  show(settings, state) {
    for (const button of this.element.querySelectorAll("[data-shape], [data-mode]"))
      for (const [name, value] of Object.entries(button.dataset))
        button.setAttribute("aria-pressed", String(settings[name] === value));
    for (const name of Object.keys(BRUSH_SLIDERS)) this.#showSlider(name, settings);
    for (const name of Object.keys(TOGGLES))
      this.#find("toggle", name).setAttribute("aria-pressed", String(settings[name]));
    this.#find("toggle", "followsEdges").hidden = settings.shape !== "brush";
    this.#find("command", "place").hidden = !GRADIENTS.includes(settings.shape);
    for (const name of ["undo", "redo"]) this.#find("command", name).disabled = !state[{ undo: "canUndo", redo: "canRedo" }[name]];
    this.#find("command", "clear").disabled = !state.isPainted;
    const isEdges = settings.shape === "brush" && settings.followsEdges && state.isPainted;
    this.#hint.textContent = HINTS[isEdges ? "edges" : settings.shape];
  }

  #find(kind, name) {
    return this.element.querySelector(`[data-${kind}="${name}"]`);
  }

  #group(label, look) {
    const group = document.createElement("div");
    group.className = look;
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", label);
    return group;
  }

  #button(group, data, text, press, title = "") {
    const button = group.appendChild(document.createElement("button"));
    Object.assign(button, { type: "button", textContent: text, title });
    button.setAttribute("aria-label", title.split(":")[0].split(" (")[0] || text);
    Object.assign(button.dataset, data);
    button.addEventListener("click", press);
    return button;
  }

  #choice(label, name, options) {
    const group = this.#group(label, "choice");
    for (const [value, text] of Object.entries(options))
      this.#button(group, { [name]: value }, text, () => this.#set(name, value));
    return group;
  }

  #slider(group, name) {
    const [label, , [min, max, step]] = BRUSH_SLIDERS[name];
    const row = group.appendChild(document.createElement("label"));
    const input = Object.assign(document.createElement("input"), { type: "range", min, max, step });
    const output = document.createElement("output");
    row.append(Object.assign(document.createElement("span"), { textContent: label }), output, input);
    input.dataset.slider = name;
    input.setAttribute("aria-label", label);
    input.addEventListener("input", () => this.#set(name, name === "size" ? sizeAt(Number(input.value)) : Number(input.value)));
    this.#sliders[name] = { row, input, output };
  }

  #showSlider(name, settings) {
    const [, shapes, , text] = BRUSH_SLIDERS[name];
    const { row, input, output } = this.#sliders[name];
    row.hidden = !shapes.includes(settings.shape) || (name === "amount" && settings.mode === "erase");
    input.value = name === "size" ? stepOf(settings.size) : settings[name];
    output.textContent = text(settings[name]);
    input.setAttribute("aria-valuetext", text(settings[name]));
  }
}
