// The tools that take an edit elsewhere: to another photograph, into a link. Given by canvas.js.
const COPIED_MS = 2000;

// The address of the page with this edit; a photograph of the visitor's own is not in it.
function linkTo({ example, inputs }) {
  const named = { ...(example && { example }), instruction: inputs.instruction, strength: rounded(position()) };
  if (inputs.seed) named.seed = inputs.seed;
  return location.origin + location.pathname + "?" + new URLSearchParams(named);
}

function addLinkTool() {
  let newest = null; // the server's value
  stage.addEventListener("message", ({ detail }) => (newest = detail));
  const tool = tools.add({
    name: "link",
    label: "Copy link",
    title: "Copy the address of this edit: words, seed, strength and example; a photograph of your own stays with you",
    press: async () => {
      const address = linkTo(newest);
      try {
        await navigator.clipboard.writeText(address);
      } catch (error) {
        return void prompt("The browser does not let the page copy. Copy this link:", address);
      }
      tool.button.textContent = find(".spoken").textContent = "Link copied";
      setTimeout(() => (tool.button.textContent = "Copy link"), COPIED_MS);
    },
  });
}

// The words, settings and strength of this edit on another photograph.
function addAnotherTool() {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: props.accept, hidden: true });
  stage.append(input);
  const tool = tools.add({
    name: "another",
    label: "Other photo",
    title: "Make this edit of another photograph: the same words, settings and strength",
    press: () => input.click(),
  });
  input.addEventListener("change", async () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (!file) return;
    tool.disable("Sending " + file.name);
    try {
      const { path } = await upload(file);
      trigger("another", { edit, path });
    } catch (error) {
      sayConnection(file.name + " could not be sent to the server. Try again, or choose another.");
    }
    tool.disable(null);
  });
}

addAnotherTool();
addLinkTool();
