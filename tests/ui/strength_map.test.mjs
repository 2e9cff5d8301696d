// Painting the strength: what strokes and gradients cover, how they change the map, undo and redo.
import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./load_scripts.mjs";

const names = ["falloff", "coverLine", "coverLinear", "coverRadial", "StrengthMap", "mapSize", "UNDO_BYTES"];
const { falloff, coverLine, coverLinear, coverRadial, StrengthMap, mapSize, UNDO_BYTES } = load(
  ["brush_shapes.js", "strength_map.js"],
  names,
);

const SIZE = { width: 40, height: 30 };
const at = (map, x, y) => map.data[y * map.width + x];
const point = (x, y, pressure = 1) => ({ x, y, pressure });
const stroke = (map, target, places, radius = 5, softness = 0) => {
  map.begin(target);
  places.forEach((to, index) => map.cover((coverage) => coverLine(coverage, places[Math.max(0, index - 1)], to, radius, softness)));
  map.end();
};
const blank = () => ({ ...SIZE, data: new Uint8Array(SIZE.width * SIZE.height) });

test("a map is as fine as the photograph, up to its limit", () => {
  assert.deepEqual(mapSize({ width: 4000, height: 3000 }), { width: 512, height: 384 });
  assert.deepEqual(mapSize({ width: 320, height: 240 }), { width: 320, height: 240 });
  assert.deepEqual(mapSize({ width: 4, height: 9000 }), { width: 1, height: 512 });
});

test("a hard brush ends within a pixel, a soft one falls from its middle on", () => {
  assert.equal(falloff(9.4, 10, 0), 1);
  assert.equal(falloff(10.6, 10, 0), 0);
  assert.ok(Math.abs(falloff(10, 10, 0) - 0.5) < 1e-9);
  assert.equal(falloff(0, 10, 1), 1);
  assert.ok(Math.abs(falloff(5, 10, 1) - 0.5) < 1e-9);
  assert.equal(falloff(10, 10, 1), 0);
});

test("a stroke is even along its way, and nothing beyond its rectangle changes", () => {
  const coverage = blank();
  const rectangle = coverLine(coverage, point(8, 15), point(30, 15), 4, 0.5);
  for (let x = 8; x < 30; x++) for (const y of [12, 14, 17]) assert.equal(at(coverage, x, y), at(coverage, 15, y));
  assert.deepEqual(rectangle, { x: 3, y: 10, width: 32, height: 10 });
  coverage.data.forEach((covered, place) => {
    const [x, y] = [place % 40, Math.floor(place / 40)];
    const isInside = x >= 3 && x < 35 && y >= 10 && y < 20;
    assert.ok(isInside || covered === 0);
  });
});

test("a stroke beyond the edge of the picture is cut off there", () => {
  const coverage = blank();
  assert.deepEqual(coverLine(coverage, point(-50, -50), point(-20, -20), 5, 0), { x: 0, y: 0, width: 0, height: 0 });
  coverLine(coverage, point(-3, 15), point(-3, 15), 8, 0);
  assert.ok(at(coverage, 0, 15) === 255 && at(coverage, 39, 15) === 0);
});

test("a stroke does not build up where it crosses itself, a second one does", () => {
  const map = new StrengthMap(SIZE);
  const way = [point(10, 10.5), point(30, 10.5), point(30, 20), point(10, 10.5)];
  stroke(map, 128, way, 6, 1);
  assert.equal(Math.max(...map.data), 128);
  const [inside, edge] = [at(map, 20, 10), at(map, 20, 6)];
  stroke(map, 128, way, 6, 1);
  assert.equal(at(map, 20, 10), inside);
  assert.ok(at(map, 20, 6) > edge && at(map, 20, 6) < 128);
});

test("a lighter pen covers less", () => {
  const map = new StrengthMap(SIZE);
  stroke(map, 255, [point(5, 15, 0.2), point(35, 15, 1)]);
  assert.ok(at(map, 5, 15) < at(map, 20, 15) && at(map, 20, 15) < at(map, 34, 15));
});

test("the first stroke paints the edit in, a first stroke with the eraser takes it away", () => {
  const painted = new StrengthMap(SIZE);
  stroke(painted, 255, [point(20, 15)]);
  assert.ok(painted.isPainted && at(painted, 20, 15) === 255 && at(painted, 0, 0) === 0);
  const erased = new StrengthMap(SIZE);
  stroke(erased, 0, [point(20, 15)]);
  assert.ok(erased.isPainted && at(erased, 20, 15) === 0 && at(erased, 0, 0) === 255);
});

test("painting moves towards the amount, from above as well", () => {
  const map = new StrengthMap(SIZE);
  map.fill(255);
  stroke(map, 64, [point(20, 15)]);
  assert.ok(at(map, 20, 15) === 64 && at(map, 0, 0) === 255);
});

test("a linear gradient falls in its direction and is half in its middle", () => {
  const coverage = blank();
  coverLinear(coverage, { x: 20, y: 15, angle: 0, length: 20 });
  assert.ok(at(coverage, 5, 3) === 255 && at(coverage, 35, 3) === 0);
  assert.ok(Math.abs(at(coverage, 19, 29) + at(coverage, 20, 29) - 255) <= 1);
  coverLinear(coverage, { x: 20, y: 15, angle: 90, length: 10 });
  assert.ok(at(coverage, 5, 3) === 255 && at(coverage, 5, 28) === 0);
});

test("a radial gradient is moved while it is drawn, and leaves nothing behind", () => {
  const map = new StrengthMap(SIZE);
  map.begin(255);
  for (const x of [10, 20, 30]) map.cover((coverage) => coverRadial(coverage, { x, y: 15, radius: 6, softness: 0.5 }));
  map.end();
  assert.ok(at(map, 30, 15) === 255 && at(map, 10, 15) === 0 && at(map, 20, 15) === 0);
  map.undo();
  assert.ok(!map.isPainted && !map.canUndo);
});

test("undo and redo give back every state, whether it was painted too", () => {
  const map = new StrengthMap(SIZE);
  const states = [];
  const changes = [
    () => stroke(map, 255, [point(10, 10), point(20, 20)]),
    () => stroke(map, 0, [point(15, 15)]),
    () => map.invert(),
    () => map.fill(90),
    () => map.replace(map.data.map((_, place) => place % 256)),
    () => map.clear(),
    () => stroke(map, 0, [point(5, 5)]),
  ];
  const state = () => [map.isPainted, map.data.join()];
  states.push(state());
  for (const change of changes) change(), states.push(state());
  for (let index = changes.length - 1; index >= 0; index--) assert.ok(map.undo()), assert.deepEqual(state(), states[index]);
  assert.ok(!map.undo());
  for (let index = 1; index <= changes.length; index++) assert.ok(map.redo()), assert.deepEqual(state(), states[index]);
  assert.ok(!map.redo());
  map.undo();
  map.invert();
  assert.ok(!map.canRedo, "what was undone does not come back over a new change");
});

test("a stroke that is cancelled or changes nothing is not there to be undone", () => {
  const map = new StrengthMap(SIZE);
  map.begin(255);
  map.cover((coverage) => coverLine(coverage, point(9, 9), point(20, 9), 5, 0));
  map.cancel();
  assert.ok(!map.isPainted && !map.canUndo && map.data.every((share) => share === 255));
  map.fill(90);
  map.fill(90);
  stroke(map, 200, [point(-50, 10)]);
  assert.ok(map.undo() && !map.canUndo);
});

test("undo takes a bounded memory, and a large map can be undone at least once", () => {
  const large = new StrengthMap({ width: 512, height: 512 });
  for (let share = 0; share < 200; share++) large.fill(share);
  let steps = 0;
  while (large.undo()) steps++;
  assert.ok(steps >= 1 && steps * 512 * 512 <= UNDO_BYTES);
});
