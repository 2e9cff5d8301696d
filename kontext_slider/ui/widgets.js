// Client side of Choices and Photograph. Given by gradio: element, props, upload, trigger, watch.

// Texts are set as text, never as markup: they may come from a model's own files.
function choices() {
  const group = element.firstElementChild;
  const buttonFor = (choice, index) => {
    const { text, image } = choice.text ? choice : { text: choice };
    const button = document.createElement("button");
    button.type = "button";
    if (image) {
      const picture = button.appendChild(new Image());
      button.title = picture.alt = text;
      picture.src = image;
    } else button.textContent = text;
    button.addEventListener("click", () => trigger("pick", { text: text, index: index }));
    return button;
  };
  const draw = () => group.replaceChildren(...(props.value || []).map(buttonFor));
  group.setAttribute("aria-label", props.label);
  watch("value", draw);
  draw();
}

// Choose, drop or paste a file of any kind: browsers neither know every format of photographs nor name it rightly. The
// whole page takes what is dropped; anywhere else a browser would leave the page for the file.
function photograph() {
  const drop = element.querySelector(".drop");
  const input = element.querySelector("input");
  const say = (sentence) => {
    drop.toggleAttribute("data-waits", Boolean(sentence));
    element.querySelector(".wait").textContent = sentence;
  };
  const edit = heldEdit(() => say("Sending the photograph, then Edit"));
  let path = ""; // of the newest file, once it is sent
  const choose = async (file) => {
    if (!file) return;
    path = "";
    edit.hold();
    say("Sending " + file.name);
    try {
      path = (await upload(file)).path;
      trigger("arrived", { path });
    } catch (error) {
      edit.release(false);
      trigger("refused", { name: file.name, reason: String((error && error.message) || error) });
    }
    say("");
  };
  // The server has looked at it: it is the photograph, or a saved file that the page asks about.
  document.addEventListener("arrival", () => path && edit.release(Boolean(props.value) && props.value.path === path));
  // Several files are a batch (batch.js).
  const take = (files) => {
    if (files.length < 2) choose(files[0]);
    else document.dispatchEvent(new CustomEvent("photographs", { detail: [...files] }));
  };
  input.accept = props.accept;
  input.addEventListener("change", () => {
    choose(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  takeFromPage(drop, take, choose);
}

// Edit waits for a photograph that is on its way: it would be an edit of the one before. hold() begins that; release()
// ends it, and presses Edit where somebody did meanwhile, if isThere. onPress() is called when somebody does.
function heldEdit(onPress) {
  let isHeld = false;
  let isPressed = false;
  const take = (event) => {
    const isPress = event.type === "click" ? event.target.closest("#edit") : event.target.closest("#instruction");
    if (!isHeld || !isPress || (event.type === "keydown" && event.key !== "Enter")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    isPressed = true;
    onPress();
  };
  for (const kind of ["click", "keydown"]) document.addEventListener(kind, take, true);
  const release = (isThere) => {
    const isDue = isPressed && isThere;
    isHeld = isPressed = false;
    if (isDue) document.querySelector("#edit").click();
  };
  return { hold: () => ([isHeld, isPressed] = [true, false]), release };
}

// What is dropped anywhere on the page, and what is pasted.
function takeFromPage(drop, take, choose) {
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      drop.toggleAttribute("data-over", kind === "dragover");
      if (!event.dataTransfer.types.includes("Files") || event.defaultPrevented) return;
      event.preventDefault();
      if (kind === "drop") take(event.dataTransfer.files);
    });
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData ? event.clipboardData.files : [];
    if (files.length && document.contains(element)) choose(files[0]);
  });
}
