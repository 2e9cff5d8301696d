// What a tab keeps, so that nothing is lost when its page is loaded again or the server is restarted: the inputs, the
// open edit and the slider's position in sessionStorage (of this tab), photographs in IndexedDB (for a day).
const KEPT = "kontext-slider";
const PHOTOGRAPH_MS = 24 * 3600 * 1000;
const NO_META = { _type: "gradio.FileData" };

const api = () => window.gradio_config.root + (window.gradio_config.api_prefix || "");

function kept() {
  return JSON.parse(sessionStorage.getItem(KEPT) || "{}");
}

function keep(changes) {
  sessionStorage.setItem(KEPT, JSON.stringify({ ...kept(), ...changes }));
}

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function inPhotographs(ask) {
  const opening = indexedDB.open(KEPT, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("photographs", { keyPath: "path" });
  const base = await answer(opening);
  try {
    return await ask(base.transaction("photographs", "readwrite").objectStore("photographs"));
  } finally {
    base.close();
  }
}

async function keepPhotograph(file) {
  if (await inPhotographs((photographs) => answer(photographs.getKey(file.path)))) return;
  const response = await fetch(file.url);
  if (!response.ok) return;
  const name = file.orig_name || file.path.split(/[\\/]/).pop();
  const entry = { path: file.path, name: name, blob: await response.blob(), time: Date.now() };
  await inPhotographs((photographs) => answer(photographs.put(entry)));
  await inPhotographs(async (photographs) => {
    for (const old of await answer(photographs.getAll()))
      if (old.time < Date.now() - PHOTOGRAPH_MS) photographs.delete(old.path);
  });
}

function fileAt(path, name) {
  return { path: path, url: api() + "/file=" + encodeURI(path), orig_name: name, meta: NO_META };
}

// The photograph as the server has it; where the server has lost it, it is uploaded again. null: nobody has it.
async function photographOnServer(path) {
  const file = fileAt(path, path.split(/[\\/]/).pop());
  if ((await fetch(file.url, { method: "HEAD" })).ok) return file;
  const entry = await inPhotographs((photographs) => answer(photographs.get(path)));
  if (!entry) return null;
  const form = new FormData();
  form.append("files", entry.blob, entry.name);
  const response = await fetch(api() + "/upload", { method: "POST", body: form });
  return response.ok ? fileAt((await response.json())[0], entry.name) : null;
}

// Called with every change of an input. Before restoredInputs has run, these are only the defaults of the page.
function keepInputs(photograph, ...settings) {
  if (!document.documentElement.dataset.restored) return;
  keep({ inputs: { photograph: photograph ? photograph.path : null, settings: settings } });
  if (photograph) keepPhotograph(photograph).catch((error) => console.warn("The photograph is not kept:", error));
}

// The inputs as they were before the page was loaded again, in the order of keepInputs; undefined: there were none.
async function restoredInputs() {
  const { inputs } = kept();
  try {
    if (!inputs) return undefined;
    return [inputs.photograph ? await photographOnServer(inputs.photograph) : null, ...inputs.settings];
  } finally {
    document.documentElement.dataset.restored = "true";
  }
}
