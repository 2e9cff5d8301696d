// The network and the server may be gone for a while. What is asked of them is asked again.
const IMAGE_WAITS = [0, 400, 1000, 2000, 4000, 8000]; // ms before each try to fetch a frame
const SERVER_WAITS = [500, 1000, 2000]; // ms between questions to a server that is gone; the last one repeats
const SILENCE_MS = 5000; // a server that says nothing for so long is gone
const LOOK_MS = 10000;
const GONE = "The server does not answer. What you see is kept, and the page goes on by itself when the server is back.";
const IS_BACK = "The server answers again. Nothing was lost.";

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Fetch and decode, with several tries; false: all failed, or nobody wants it any more.
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

// "same": the server that made this page; "other": it was restarted; "none": nobody answers.
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

// Wait for the server; say is told a sentence about it. A restarted one knows nothing of this page: it is loaded again
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
