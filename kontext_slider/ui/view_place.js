// Where the photograph lies on the canvas, for any zoom and centre. Pure functions.
// zoom: pixels of the canvas for one of the photograph, or "fit". centre: the place of the photograph, [0, 1] in both
// directions, that lies in the middle of the canvas. Sizes: {width, height} in pixels.
const MOST_ZOOM = 8;

const fitZoom = (canvas, photograph) =>
  Math.min(canvas.width / photograph.width, canvas.height / photograph.height);

const zoomOf = (place, canvas, photograph) => (place.zoom === "fit" ? fitZoom(canvas, photograph) : place.zoom);

// {left, top, width, height} of the photograph on the canvas. Whole pixels, so that 100 % is sharp.
function rectangleOf(place, canvas, photograph) {
  const zoom = zoomOf(place, canvas, photograph);
  const width = zoom * photograph.width;
  const height = zoom * photograph.height;
  const [x, y] = place.zoom === "fit" ? [0.5, 0.5] : place.centre;
  const left = Math.round(canvas.width / 2 - x * width);
  return { left, top: Math.round(canvas.height / 2 - y * height), width, height };
}

// The nearest place at which the picture fills the canvas, or is in its middle where it is smaller.
function limitedPlace(place, canvas, photograph) {
  const least = fitZoom(canvas, photograph);
  const zoom = Math.min(zoomOf(place, canvas, photograph), Math.max(MOST_ZOOM, least));
  if (zoom <= least * 1.001) return { zoom: "fit", centre: [0.5, 0.5] };
  const limited = (at, side) => {
    const half = canvas[side] / (2 * zoom * photograph[side]);
    return half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, at));
  };
  return { zoom, centre: [limited(place.centre[0], "width"), limited(place.centre[1], "height")] };
}

// The place of the photograph, [0, 1] within it, that is seen at the pixel (x, y) of the canvas.
function photographAt(place, [x, y], canvas, photograph) {
  const { left, top, width, height } = rectangleOf(place, canvas, photograph);
  return [(x - left) / width, (y - top) / height];
}

// The place with the given zoom at which `at` (of the photograph) is seen at the pixel (x, y) of the canvas, limited.
function placeWith(zoom, at, [x, y], canvas, photograph) {
  const exact = Math.min(Math.max(zoom, fitZoom(canvas, photograph)), Math.max(MOST_ZOOM, fitZoom(canvas, photograph)));
  const centre = [
    at[0] - (x - canvas.width / 2) / (exact * photograph.width),
    at[1] - (y - canvas.height / 2) / (exact * photograph.height),
  ];
  return limitedPlace({ zoom: exact, centre }, canvas, photograph);
}

// Give the canvas as many pixels as it has on the screen, at most `most` in all. Returns whether that is a change.
function fitPixels(canvas, most = Infinity) {
  const ratio = window.devicePixelRatio || 1;
  const scale = ratio * Math.min(1, Math.sqrt(most / Math.max(1, canvas.clientWidth * canvas.clientHeight * ratio ** 2)));
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.max(1, Math.round(side * scale)));
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  return true;
}
