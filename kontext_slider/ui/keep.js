// What a tab keeps, so that nothing is lost when its page is loaded again or the server is restarted: the inputs, the
// open edit and the slider's position in sessionStorage (of this tab), photographs in IndexedDB (for a day).
// And what waits for a network or a server that is gone for a while.
const KEPT = "kontext-slider";
const LINKED = ["example", "instruction", "strength", "seed"]; // what an address may name (links.py)
const PHOTOGRAPH_MS = 24 * 3600 * 1000;
const IMAGE_WAITS = [0, 400, 1000, 2000, 4000, 8000]; // ms before each try to fetch a frame
const SERVER_WAITS = [500, 1000, 2000]; // ms between requests to a server that is gone; the last one repeats
const SILENCE_MS = 5000; // a server that does not answer for so long is gone
const LOOK_MS = 10000;
const GONE = "The server does not answer. What you see is kept, and the page goes on by itself when the server is back.";
const IS_BACK = "The server answers again. Nothing was lost.";

const api = () => window.gradio_config.root + (window.gradio_config.api_prefix || "");
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
// What the page's address names, as text; a link has what is kept of its own, beside what the tab had before.
const link = () => new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => LINKED.includes(name)));
const keptPlace = () => KEPT + (link().size ? "?" + link() : "");
const kept = () => JSON.parse(sessionStorage.getItem(keptPlace()) || "{}");
const keep = (changes) => sessionStorage.setItem(keptPlace(), JSON.stringify({ ...kept(), ...changes }));

const answer = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function inBase(name, store, keyPath, use) {
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(store, { keyPath });
  const base = await answer(opening);
  try {
    return await use(base.transaction(store, "readwrite").objectStore(store));
  } finally {
    base.close();
  }
}

const inPhotographs = (use) => inBase(KEPT, "photographs", "path", use);

async function keepPhotograph(file) {
  if (await inPhotographs((photographs) => answer(photographs.getKey(file.path)))) return;
  const response = await fetch(file.url);
  if (!response.ok) return;
  const name = file.orig_name || file.path.split(/[\\/]/).pop();
  const entry = { path: file.path, name: name, blob: await response.blob(), time: Date.now() };
  await inPhotographs(async (photographs) => {
    photographs.put(entry);
    for (const old of await answer(photographs.getAll()))
      if (old.time < Date.now() - PHOTOGRAPH_MS) photographs.delete(old.path);
  });
}

// The photograph as the server has it; where the server has lost it, it is uploaded again. null: nobody has it.
async function photographOnServer(path) {
  const fileAt = (path, name) => {
    return { path: path, url: api() + "/file=" + encodeURI(path), orig_name: name, meta: { _type: "gradio.FileData" } };
  };
  const file = fileAt(path, path.split(/[\\/]/).pop());
  if ((await fetch(file.url, { method: "HEAD" })).ok) return file;
  const entry = await inPhotographs((photographs) => answer(photographs.get(path)));
  if (!entry) return null;
  const form = new FormData();
  form.append("files", entry.blob, entry.name);
  const response = await fetch(api() + "/upload", { method: "POST", body: form });
  return response.ok ? fileAt((await response.json())[0], entry.name) : null;
}

// Called with every change of an input: the photograph, then the settings.
function keepInputs(...values) {
  window.newestInputs = values;
  if (!document.documentElement.dataset.restored) return; // restoredInputs takes care of these
  const [photograph, ...settings] = values;
  keep({ inputs: { photograph: photograph ? photograph.path : null, settings: settings } });
  if (photograph) keepPhotograph(photograph).catch((error) => console.warn("The photograph is not kept:", error));
}

// The inputs as they were before the page was loaded again, in the order of keepInputs; undefined: there were none.
// An input that the visitor has changed since, from what the page opens with (defaults), stays as it is.
async function restoredInputs(defaults) {
  const { inputs } = kept();
  window.firstPhotograph = defaults[0];
  let restored; // until then, and where there is an error, none
  try {
    if (!inputs) return undefined;
    restored = [inputs.photograph ? await photographOnServer(inputs.photograph) : null, ...inputs.settings];
    const newest = (window.newestInputs || defaults).map((value) => (value && value.path) || value);
    return restored.map((value, place) => (newest[place] === defaults[place] ? value : { __type__: "update" }));
  } finally {
    document.documentElement.dataset.restored = "true";
    if (restored && window.newestInputs) keepInputs(...window.newestInputs);
  }
}

// Fetch, with several tries; null: all failed, or the file is not wanted any more.
async function fetched(url, isWanted) {
  for (const wait of IMAGE_WAITS) {
    await pause(wait);
    if (!isWanted()) return null;
    try {
      const response = await fetch(url);
      if (response.ok) return response;
      console.info("A file could not be fetched yet:", url, response.status);
    } catch (error) {
      console.info("A file could not be fetched yet:", url, error.message);
    }
  }
  return null;
}

// Fetch and decode, with several tries; false: all failed, or the frame is not wanted any more.
async function decoded(image, url, isWanted) {
  for (const wait of IMAGE_WAITS) {
    await pause(wait);
    if (!isWanted()) return false;
    image.src = url;
    try {
      await image.decode();
      return true;
    } catch (error) {
      console.info("A frame could not be fetched yet:", url, error.message);
    }
  }
  return false;
}

// "same": the server that made this page; "other": it was restarted; "none": there is no answer.
async function server() {
  try {
    const response = await fetch(api() + "/app_id", { cache: "no-store", signal: AbortSignal.timeout(SILENCE_MS) });
    const { app_id } = await response.json();
    return app_id === window.gradio_config.app_id ? "same" : "other";
  } catch (error) {
    console.info("The server does not answer:", error.message);
    return "none";
  }
}

// Wait for the server; say shows a sentence about it. A restarted one does not know this page, which is loaded again
// and gets back what this tab has kept.
async function reached(say) {
  for (let tries = 0; ; tries++) {
    const found = await server();
    if (found === "other") location.reload();
    if (found === "same" && tries > 0) say(IS_BACK);
    if (found === "same") return;
    say(GONE);
    await pause(SERVER_WAITS[Math.min(tries, SERVER_WAITS.length - 1)]);
  }
}

function watchServer(say) {
  let isLooking = false;
  const look = async () => {
    if (isLooking || document.visibilityState !== "visible") return;
    isLooking = true;
    await reached(say);
    isLooking = false;
  };
  setInterval(look, LOOK_MS);
  for (const event of ["offline", "online"]) window.addEventListener(event, look);
}
