// A dab that keeps to the edges of what lies under its middle.
import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./load_scripts.mjs";

const scripts = ["brush_shapes.js", "strength_map.js", "edge_aware.js"];
const { edgeColours, coverToEdges, coverLine, dabsAlong } = load(scripts, ["edgeColours", "coverToEdges", "coverLine", "dabsAlong"]);

const SIZE = { width: 80, height: 60 };
const blank = () => ({ ...SIZE, data: new Uint8Array(80 * 60) });
const at = (map, x, y) => map.data[y * 80 + x];
const middle = { x: 30, y: 30, pressure: 1 };
// colourOf(x, y): [red, green, blue]
function coloursOf(colourOf) {
  const data = new Uint8Array(4 * 80 * 60).fill(255);
  for (let y = 0; y < 60; y++) for (let x = 0; x < 80; x++) data.set(colourOf(x, y), 4 * (y * 80 + x));
  return edgeColours({ ...SIZE, data });
}

test("a dab beside an edge does not cross it", () => {
  const halves = coloursOf((x) => (x < 40 ? [150, 60, 50] : [120, 160, 220]));
  const coverage = blank();
  const rectangle = coverToEdges(coverage, halves, middle, 20, 0.2);
  assert.ok(at(coverage, 30, 30) === 255 && at(coverage, 36, 30) > 240 && at(coverage, 43, 30) < 10);
  assert.deepEqual(rectangle, { x: 9, y: 9, width: 42, height: 42 });
  assert.ok(at(coverage, 0, 30) === 0 && at(coverage, 70, 30) === 0);
});

test("grain is no edge, and neither is a slow change of light", () => {
  let random = 1;
  const grain = () => ((random = (random * 16807) % 2147483647) % 9) - 4;
  const sky = coloursOf((x, y) => [110 + y / 2, 150 + y / 2, 210].map((level) => level + grain()));
  const [kept, plain] = [blank(), blank()];
  coverToEdges(kept, sky, middle, 15, 0.5);
  coverLine(plain, middle, middle, 15, 0.5);
  const sum = ({ data }) => data.reduce((total, each) => total + each, 0);
  assert.ok(sum(kept) > 0.9 * sum(plain), `${sum(kept)} of ${sum(plain)}`);
});

test("what a dab has covered stays covered by the next one", () => {
  const halves = coloursOf((x) => (x < 40 ? [150, 60, 50] : [120, 160, 220]));
  const coverage = blank();
  coverToEdges(coverage, halves, { ...middle, x: 50 }, 20, 0.2);
  coverToEdges(coverage, halves, middle, 20, 0.2);
  assert.ok(at(coverage, 30, 30) === 255 && at(coverage, 50, 30) === 255);
});

test("dabs go on at the same distance from line to line", () => {
  const point = (x) => ({ x, y: 0, pressure: x / 10 });
  const first = dabsAlong(point(0), point(5), 2, 0);
  assert.deepEqual(first.dabs.map(({ x }) => x), [0, 2, 4]);
  const second = dabsAlong(point(5), point(10), 2, first.ahead);
  assert.deepEqual(second.dabs.map(({ x, pressure }) => [x, pressure]), [[6, 0.6], [8, 0.8], [10, 1]]);
  assert.deepEqual(dabsAlong(point(3), point(3), 2, 0).dabs.length, 1, "a click is a dab");
  assert.deepEqual(dabsAlong(point(3), point(3), 2, 1).dabs, []);
});
