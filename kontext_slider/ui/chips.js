// Client side of Chips. Text is set as text, never as markup: it may come from a model's own files.
const row = element.querySelector(".chips");

function chipFor(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.textContent = text;
  button.addEventListener("click", () => trigger("pick", { text: text }));
  return button;
}

function draw() {
  row.setAttribute("aria-label", props.label || "Suggestions");
  row.replaceChildren(...(props.value || []).map(chipFor));
}

watch("value", draw);
draw();
