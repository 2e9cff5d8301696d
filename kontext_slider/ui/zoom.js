// A small button over the picture: it says how large the photograph is shown, and goes to 100 % and back. Given by canvas.js.
const SMALL_ZOOM = 2; // times the whole picture, for photographs that are smaller than the screen

function addZoomButton() {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "zoom", hidden: true });
  const isWhole = () => picture.place.zoom === "fit";
  const nearest = () => Math.max(1, SMALL_ZOOM * fitZoom(picture.view.canvasSize, picture.view.photographSize));
  const percent = (zoom) => Math.round(100 * zoom) + " %";
  const update = () => {
    button.hidden = !picture.isDrawn;
    if (button.hidden) return;
    button.textContent = isWhole() ? "Fit" : percent(picture.place.zoom);
    button.title = isWhole()
      ? `Show at ${percent(nearest())}. Also: pinch, double click, Ctrl and the wheel, + and -.`
      : "Show the whole picture. Drag to move it.";
    button.setAttribute("aria-label", `Shown: ${button.textContent}. ${button.title}`);
  };
  const press = () => {
    picture.gestures.set(isWhole() ? { zoom: nearest(), centre: [0.5, 0.5] } : WHOLE);
    update();
  };
  button.addEventListener("click", press);
  for (const name of ["shown", "place"]) stage.addEventListener(name, update);
  find(".overlay").append(button);
}

addZoomButton();
