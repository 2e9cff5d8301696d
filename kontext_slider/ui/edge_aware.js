// A dab of the brush that ends at the edges of what lies under its middle. Pure functions; sizes in pixels of the map.
// By the minimum barrier distance (Strand et al. 2013, by raster scans as in Zhang et al. 2015): a path from the dab's
// core costs how far its colours spread, and what only costly paths reach is something else. Measured against others in
// benchmarks/LOG.md.
const CHROMA = 3; // colours count so many times as much as lightness
const CORE = 0.12; // of the radius: what is certainly meant
const SCANS = 3; // forward, backward, forward
const DISTANCE_BINS = 64;
const MOST_DISTANCE = 0.5; // of the histogram
const THRESHOLD_SHARE = 1.2; // of the middle between what is meant and what is not
const LEAST_THRESHOLD = 0.08;
const MOST_THRESHOLD = 0.25;
const THRESHOLD_EDGE = 0.25; // of the threshold: the weight falls from so much below it to so much above

const LINEAR_LEVELS = Float32Array.from({ length: 256 }, (_, level) =>
  level <= 0.04045 * 255 ? level / 255 / 12.92 : ((level / 255 + 0.055) / 1.055) ** 2.4,
);

// OKLab (Ottosson 2020) of RGB levels, its colours times CHROMA, into `values` from `at` on.
function putOklab(values, at, red, green, blue) {
  const [r, g, b] = [LINEAR_LEVELS[red], LINEAR_LEVELS[green], LINEAR_LEVELS[blue]];
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  values[at] = 0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s;
  values[at + 1] = CHROMA * (1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s);
  values[at + 2] = CHROMA * (0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s);
}

// Blur by 1-2-1 along lines of `length` values that lie next to each other, `step` apart. Edges are repeated.
function blurred(values, length, step) {
  const result = new Float32Array(values.length);
  for (let at = 0; at < values.length; at++) {
    const place = at % length;
    const before = place < step ? at : at - step;
    const after = place >= length - step ? at : at + step;
    result[at] = (values[before] + 2 * values[at] + values[after]) / 4;
  }
  return result;
}

// The colours that edges are found in, of a photograph at the map's size: {width, data: three floats for each pixel}.
// image: {width, height, data: RGBA bytes}.
function edgeColours({ width, height, data }) {
  const values = new Float32Array(3 * width * height);
  for (let place = 0; place < width * height; place++)
    putOklab(values, 3 * place, data[4 * place], data[4 * place + 1], data[4 * place + 2]);
  return { width, data: blurred(blurred(values, 3 * width, 3), values.length, 3 * width) };
}

// Call visit(place, neighbour) for every pixel and each of its four neighbours that a raster scan has passed before.
function scanNeighbours(width, height, isBackward, visit) {
  const sign = isBackward ? 1 : -1;
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const [x, y] = isBackward ? [width - 1 - column, height - 1 - row] : [column, row];
      const place = y * width + x;
      if (column > 0) visit(place, place + sign);
      if (row === 0) continue;
      visit(place, place + sign * width);
      if (column > 0) visit(place, place + sign * (width + 1));
      if (column < width - 1) visit(place, place + sign * (width - 1));
    }
}

// The least cost of a path from within `core` pixels of the middle to every pixel of a rectangle.
function barrierDistances(colours, { x, y, width, height }, middle, core) {
  const distances = new Float32Array(width * height).fill(Infinity);
  const own = new Float32Array(3 * width * height);
  for (let row = 0; row < height; row++) {
    const start = 3 * ((y + row) * colours.width + x);
    own.set(colours.data.subarray(start, start + 3 * width), 3 * row * width);
    for (let column = 0; column < width; column++)
      if (Math.hypot(x + column + 0.5 - middle.x, y + row + 0.5 - middle.y) <= core) distances[row * width + column] = 0;
  }
  const [low, high] = [own.slice(), own.slice()]; // of the best path's colours
  const visit = (place, from) => {
    if (distances[from] >= distances[place]) return;
    let squared = 0;
    for (let at = 3 * place, other = 3 * from; at < 3 * place + 3; at++, other++) {
      const spread = Math.max(high[other], own[at]) - Math.min(low[other], own[at]);
      squared += spread * spread;
    }
    if (Math.sqrt(squared) >= distances[place]) return;
    distances[place] = Math.sqrt(squared);
    for (let at = 3 * place, other = 3 * from; at < 3 * place + 3; at++, other++) {
      high[at] = Math.max(high[other], own[at]);
      low[at] = Math.min(low[other], own[at]);
    }
  };
  for (let scan = 0; scan < SCANS; scan++) scanNeighbours(width, height, scan % 2 === 1, visit);
  return distances;
}

// Which distance parts what is meant from what is not: Otsu's, of distances that count as much as they are covered.
function barrierThreshold(distances, covered) {
  const bins = new Float64Array(DISTANCE_BINS);
  distances.forEach((distance, place) => {
    bins[Math.min(DISTANCE_BINS - 1, Math.floor((DISTANCE_BINS * distance) / MOST_DISTANCE))] += covered[place];
  });
  const count = bins.reduce((sum, each) => sum + each, 0);
  const total = bins.reduce((sum, each, bin) => sum + each * bin, 0);
  let [below, belowTotal, best, threshold] = [0, 0, 0, MOST_THRESHOLD];
  for (let bin = 0; bin < DISTANCE_BINS - 1; bin++) {
    below += bins[bin];
    belowTotal += bins[bin] * bin;
    if (below <= 0 || count - below <= 0) continue;
    const [lower, upper] = [belowTotal / below, (total - belowTotal) / (count - below)];
    const between = below * (count - below) * (upper - lower) ** 2;
    if (between <= best * 1.0000001) continue;
    best = between;
    threshold = (THRESHOLD_SHARE * ((lower + upper + 1) / 2) * MOST_DISTANCE) / DISTANCE_BINS;
  }
  return Math.min(MOST_THRESHOLD, Math.max(LEAST_THRESHOLD, threshold));
}

// Raise what is covered to that of a dab that keeps to the edges. As coverLine (brush_shapes.js), but for one place.
function coverToEdges(coverage, colours, middle, radius, softness) {
  const [x, width] = pixelSpan(middle.x - radius - 1, middle.x + radius + 1, coverage.width);
  const [y, height] = pixelSpan(middle.y - radius - 1, middle.y + radius + 1, coverage.height);
  const rectangle = { x, y, width, height };
  const covered = new Uint8Array(width * height);
  const shifted = { ...middle, x: middle.x - x, y: middle.y - y };
  coverLine({ width, height, data: covered }, shifted, shifted, radius, softness);
  const distances = barrierDistances(colours, rectangle, middle, Math.max(1, CORE * radius));
  const threshold = barrierThreshold(distances, covered);
  for (let index = 0; index < covered.length; index++) {
    const place = (y + Math.floor(index / width)) * coverage.width + x + (index % width);
    const part = (1 + THRESHOLD_EDGE - distances[index] / threshold) / (2 * THRESHOLD_EDGE);
    const kept = Math.min(1, Math.max(0, part));
    const weighted = Math.round(covered[index] * kept * kept * (3 - 2 * kept));
    if (weighted > coverage.data[place]) coverage.data[place] = weighted;
  }
  return rectangle;
}
