// Client side of Photograph: choose, drop or paste a file of any kind. The server says whether it is a photograph, as
// browsers neither know every format nor name it rightly. Given by gradio: element, props, upload, trigger.
const drop = element.querySelector(".drop");
const input = element.querySelector("input");
const wait = element.querySelector(".wait");
input.accept = props.accept;

function say(sentence) {
  drop.toggleAttribute("data-waits", Boolean(sentence));
  wait.textContent = sentence;
}

async function choose(file) {
  if (!file) return;
  say("Sending " + file.name);
  try {
    const sent = await upload(file);
    say("");
    props.value = { ...sent, orig_name: file.name, meta: { _type: "gradio.FileData" } };
  } catch (error) {
    say("");
    trigger("refused", { name: file.name, reason: String((error && error.message) || error) });
  }
}

input.addEventListener("change", () => {
  choose(input.files[0]);
  input.value = ""; // so that the same file can be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.toggleAttribute("data-over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  const files = event.clipboardData ? event.clipboardData.files : [];
  if (files.length && document.contains(element)) choose(files[0]);
});
