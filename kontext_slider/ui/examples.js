// Client side of Gallery: one button per example, named by its instruction.
function buttonFor(example, index) {
  const button = document.createElement("button");
  const picture = button.appendChild(document.createElement("img"));
  button.type = "button";
  button.title = example.text;
  picture.alt = example.text;
  picture.src = example.image;
  button.addEventListener("click", () => trigger("pick", { index: index }));
  return button;
}

element.querySelector(".gallery").replaceChildren(...(props.value || []).map(buttonFor));
