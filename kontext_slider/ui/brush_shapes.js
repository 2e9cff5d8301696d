// What a stroke or a gradient covers: bytes of a map, 255 where it counts in full. Pure functions.
// Places and sizes are in pixels of the map, a pixel's middle at half; softness in [0, 1].

// How much counts at a distance from the middle of a brush. Softness 0: all of it up to an edge of one pixel; 1: it falls
// from the middle on. The edge is smooth at both ends.
function falloff(distance, radius, softness) {
  const edge = Math.max(1, softness * radius);
  const outer = radius + (edge - softness * radius) / 2;
  const part = Math.min(1, Math.max(0, (outer - distance) / edge));
  return part * part * (3 - 2 * part);
}

// The part of [low, high) that lies within [0, most), in whole pixels: [first, count].
function pixelSpan(low, high, most) {
  const first = Math.max(0, Math.floor(low));
  return [first, Math.max(0, Math.min(most, Math.ceil(high)) - first)];
}

// Raise what is covered to that of a round brush drawn straight from one place to another: {x, y, pressure in [0, 1]}.
// A stroke is a row of these: where they overlap, the most counts, so that it does not build up.
// coverage: {width, height, data}. Returns the rectangle {x, y, width, height} that may have changed.
function coverLine(coverage, from, to, radius, softness) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const squared = dx * dx + dy * dy;
  const reach = radius + 1;
  const [x, width] = pixelSpan(Math.min(from.x, to.x) - reach, Math.max(from.x, to.x) + reach, coverage.width);
  const [y, height] = pixelSpan(Math.min(from.y, to.y) - reach, Math.max(from.y, to.y) + reach, coverage.height);
  for (let row = y; row < y + height; row++)
    for (let column = x; column < x + width; column++) {
      const [px, py] = [column + 0.5 - from.x, row + 0.5 - from.y];
      const along = squared > 0 ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 1;
      const distance = Math.hypot(px - along * dx, py - along * dy);
      if (distance >= reach) continue;
      const pressure = from.pressure + along * (to.pressure - from.pressure);
      const covered = Math.round(255 * pressure * falloff(distance, radius, softness));
      const place = row * coverage.width + column;
      if (covered > coverage.data[place]) coverage.data[place] = covered;
    }
  return { x, y, width, height };
}

// Cover everything by a function of a place.
function coverAll({ width, height, data }, covered) {
  for (let row = 0, place = 0; row < height; row++)
    for (let column = 0; column < width; column++, place++)
      data[place] = Math.round(255 * covered(column + 0.5, row + 0.5));
}

// A linear gradient about {x, y}: all before it, nothing behind it, as seen in the direction `angle` (degrees; 0 is to the
// right, 90 down); between lies `length`.
function coverLinear(coverage, { x, y, angle, length }) {
  const [right, down] = [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
  coverAll(coverage, (column, row) => {
    const along = ((column - x) * right + (row - y) * down) / length;
    const part = Math.min(1, Math.max(0, 0.5 - along));
    return part * part * (3 - 2 * part);
  });
}

// A radial gradient about {x, y}: what a soft brush of this radius covers.
function coverRadial(coverage, { x, y, radius, softness }) {
  coverAll(coverage, (column, row) => falloff(Math.hypot(column - x, row - y), radius, softness));
}

// The gradient of the brush's settings: its place and size as shares of the photograph's sides and of the longer side.
function coverGradient(coverage, { shape, x, y, angle, size, softness }) {
  const middle = { x: x * coverage.width, y: y * coverage.height };
  const length = size * Math.max(coverage.width, coverage.height);
  if (shape === "linear") coverLinear(coverage, { ...middle, angle, length });
  else coverRadial(coverage, { ...middle, radius: length / 2, softness });
}

// The places of dabs along a straight line: every `spacing` pixels, the first one `ahead` pixels from its start.
// {dabs, ahead}: where the next line goes on.
function dabsAlong(from, to, spacing, ahead) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const dabs = [];
  let at = ahead;
  for (; at <= length; at += spacing) {
    const part = length > 0 ? at / length : 1;
    const between = (name) => from[name] + part * (to[name] - from[name]);
    dabs.push({ x: between("x"), y: between("y"), pressure: between("pressure") });
  }
  return { dabs, ahead: at - length };
}
