// The tool row below the slider. A tool is a button; it acts at once, or opens a panel below the row, one at a time.
class Toolbar {
  #row;
  #panels;
  #open = null; // the tool whose panel is open

  constructor(row, panels) {
    [this.#row, this.#panels] = [row, panels];
    row.addEventListener("keydown", (event) => this.#key(event));
  }

  // name: for styles and tests (data-tool). label: on the button. title: one sentence, shown on hover.
  // panel: an element, or null for a tool without one. press(): what a press does then; else onOpen() and onClose()
  // are called when the panel opens and closes.
  // Returns {button, panel, isOpen, open(), close(), disable(reason)}; disable(null) enables it again.
  add({ name, label, title = "", panel = null, press = () => {}, onOpen = () => {}, onClose = () => {} }) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label, title, tabIndex: this.#row.children.length ? -1 : 0 });
    button.dataset.tool = name;
    const tool = {
      button,
      panel,
      onClose,
      get isOpen() {
        return panel !== null && !panel.hidden;
      },
      open: () => this.#show(tool, onOpen),
      close: () => this.#hide(tool),
      disable: (reason) => this.#disable(tool, reason, title),
    };
    if (panel) this.#addPanel(tool, label);
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      if (!panel) press();
      else if (tool.isOpen) tool.close();
      else tool.open();
    });
    this.#row.append(button);
    this.#row.hidden = false;
    return tool;
  }

  #addPanel({ button, panel }, label) {
    panel.classList.add("panel");
    panel.id ||= "panel-" + button.dataset.tool;
    panel.hidden = true;
    panel.setAttribute("role", "group");
    panel.setAttribute("aria-label", label);
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-controls", panel.id);
    this.#panels.append(panel);
  }

  #show(tool, onOpen) {
    if (tool.isOpen) return;
    if (this.#open) this.#hide(this.#open);
    this.#open = tool;
    tool.panel.hidden = false;
    tool.button.setAttribute("aria-expanded", "true");
    onOpen();
  }

  #hide(tool) {
    if (!tool.isOpen) return;
    this.#open = null;
    tool.panel.hidden = true;
    tool.button.setAttribute("aria-expanded", "false");
    tool.onClose();
  }

  #disable(tool, reason, title) {
    if (reason !== null && tool.isOpen) this.#hide(tool);
    tool.button.setAttribute("aria-disabled", String(reason !== null));
    tool.button.title = reason === null ? title : reason;
  }

  // Arrow keys move within the row, which is one stop of the Tab key.
  #key(event) {
    const buttons = [...this.#row.children];
    const last = buttons.length - 1;
    const at = buttons.indexOf(document.activeElement);
    const next = { ArrowRight: Math.min(at + 1, last), ArrowLeft: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (at < 0 || next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    buttons.forEach((button, place) => (button.tabIndex = place === next ? 0 : -1));
    buttons[next].focus();
  }
}
