// Client side of SavedFile. Given by gradio: element, props, trigger, watch.
const LABELS = {
  restore: "Restore its edit",
  use: "Use it as a photograph",
  anyway: "Use the photograph that is here",
  cancel: "Cancel",
};
const NOTHING = { path: "", sentence: "", kind: "advice", choices: [], waits: false, is_due: false };
const place = element.firstElementChild;

function chosen(name) {
  const { path, waits } = props.value;
  if (name === "cancel") props.value = NOTHING;
  else if (name === "use") trigger("use", { path });
  else trigger("restore", { path, is_answer: waits });
}

function buttonFor(name) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: LABELS[name] });
  button.dataset.choice = name;
  button.addEventListener("click", () => chosen(name));
  return button;
}

function draw() {
  const { sentence, kind, choices, is_due } = props.value || NOTHING;
  if (is_due) {
    const isAnswer = props.value.waits;
    props.value = { ...props.value, is_due: false };
    trigger("restore", { path: props.value.path, is_answer: isAnswer });
  }
  place.className = "offer notice " + kind;
  place.hidden = !sentence;
  const text = document.createElement("span");
  text.textContent = sentence;
  place.replaceChildren(text, ...choices.map(buttonFor));
}

watch("value", draw);
draw();
