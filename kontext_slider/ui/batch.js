// Client side of BatchPanel. Given by gradio: element, props, trigger, upload, watch.
const STATES = { sending: "sending", ready: "", waits: "waits", edits: "being edited", done: "done", failed: "failed" };
const panel = element.querySelector(".batch");
const at = (selector) => panel.querySelector(selector);
const input = at("input");
const list = at("ul");
const gigabytes = (bytes) => (bytes / 1e9).toFixed(1) + " GB";

let photographs = []; // {name, size, path, state, sentence}; path: on the server, "" before it is there
let isRunning = false;
let isSending = false;

// ---- what the batch will do

const field = (selector) => document.querySelector(selector);
const strengthNow = () => Number((field("#filmstrip .stage") || { dataset: {} }).dataset.strength || 1);

function describeRecipe() {
  const words = (field("#instruction textarea, #instruction input") || {}).value || "";
  at(".recipe").textContent = words.trim()
    ? `“${words.trim()}” at strength ${strengthNow().toFixed(2)}, with the seed, steps and format that are on the page. ` +
      "A painted map and earlier edits belong to their photograph and are left out."
    : "Say above what to change: the words, settings and strength on the page are those of all photographs.";
}

// ---- the list

function rowOf(photograph) {
  const row = document.createElement("li");
  row.dataset.state = photograph.state;
  row.append(
    Object.assign(document.createElement("b"), { textContent: photograph.name, title: photograph.name }),
    Object.assign(document.createElement("span"), { textContent: STATES[photograph.state] }),
  );
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×", hidden: isRunning });
  remove.setAttribute("aria-label", "Take " + photograph.name + " off the list");
  remove.addEventListener("click", () => {
    photographs = photographs.filter((each) => each !== photograph);
    draw();
  });
  row.append(remove);
  if (photograph.sentence) row.append(Object.assign(document.createElement("small"), { textContent: photograph.sentence }));
  return row;
}

function draw() {
  const ready = photographs.filter(({ path }) => path);
  list.replaceChildren(...photographs.map(rowOf));
  const start = at("[data-do=start]");
  start.textContent = ready.length ? `Edit ${ready.length} photograph${ready.length === 1 ? "" : "s"}` : "Edit all";
  start.disabled = isRunning || isSending || ready.length === 0;
  at("[data-do=cancel]").hidden = !isRunning;
  at("[data-do=clear]").hidden = isRunning || photographs.length === 0;
  at(".bar").hidden = !isRunning;
  at(".drop").hidden = isRunning;
  describeRecipe();
}

function say(sentence, isError = false) {
  const said = at(".said");
  if (said.textContent !== sentence) said.textContent = sentence;
  said.classList.toggle("error", isError);
}

// ---- photographs come

// The files that there is room for; says so where some are left out.
function withRoom(files) {
  const taken = [];
  let bytes = photographs.reduce((sum, { size }) => sum + size, 0);
  for (const file of files) {
    bytes += file.size;
    if (photographs.length + taken.length >= props.most || bytes > props.most_bytes) {
      say(`A batch has at most ${props.most} photographs and ${gigabytes(props.most_bytes)}: the others are left out.`, true);
      break;
    }
    taken.push(file);
  }
  return taken;
}

async function add(files) {
  if (isRunning) return;
  say("");
  panel.open = true;
  const added = withRoom([...files]).map((file) => ({ file, name: file.name, size: file.size, path: "", state: "sending" }));
  photographs.push(...added);
  isSending = true;
  draw();
  for (const photograph of added) await send(photograph);
  isSending = photographs.some(({ state }) => state === "sending");
  draw();
}

async function send(photograph) {
  try {
    const { path } = await upload(photograph.file);
    const isTwice = photographs.some((each) => each.path === path);
    Object.assign(photograph, { path, state: "ready" });
    if (isTwice) photographs = photographs.filter((each) => each !== photograph);
  } catch (error) {
    Object.assign(photograph, { state: "failed", sentence: "It could not be sent to the server: add it again." });
  }
  delete photograph.file;
  draw();
}

// ---- the batch

function start() {
  const sent = photographs.filter(({ path }) => path);
  for (const photograph of sent) Object.assign(photograph, { state: "waits", sentence: "" });
  isRunning = true;
  at(".fetch").hidden = true;
  say("");
  draw();
  trigger("start", { paths: sent.map(({ path }) => path), strength: strengthNow() });
}

function receive() {
  const value = props.value;
  if (!value || (!value.text && !value.items.length)) return;
  const known = new Map(value.items.map((item) => [item.path, item]));
  for (const photograph of photographs) Object.assign(photograph, known.get(photograph.path));
  isRunning = value.runs;
  draw();
  at(".bar i").style.width = 100 * value.fraction + "%";
  say(value.text, value.is_error);
  if (value.file) offer(value.file);
}

// The ZIP is fetched at once, and can be fetched again.
function offer(file) {
  const link = at(".fetch");
  Object.assign(link, { href: file.url, download: file.orig_name, hidden: false });
  link.textContent = `Download ZIP (${(file.size / 1e6).toFixed(1)} MB)`;
  link.click();
}

input.accept = props.accept;
input.addEventListener("change", () => {
  const files = [...input.files];
  input.value = ""; // so that the same files can be chosen again
  add(files);
});
panel.addEventListener("drop", (event) => {
  event.preventDefault(); // also: one photograph here is not the page's
  add(event.dataTransfer.files);
});
document.addEventListener("photographs", ({ detail }) => add(detail)); // several were dropped on the page (widgets.js)
panel.addEventListener("toggle", draw);
panel.addEventListener("pointerenter", describeRecipe);
at("[data-do=start]").addEventListener("click", start);
at("[data-do=cancel]").addEventListener("click", () => trigger("cancel", {}));
at("[data-do=clear]").addEventListener("click", () => {
  photographs = [];
  at(".fetch").hidden = true;
  say("");
  draw();
});
watch("value", receive);
draw();
