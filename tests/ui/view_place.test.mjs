// Where the photograph lies on the canvas: zoom, pan and their limits.
import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./load_scripts.mjs";

const names = ["fitZoom", "rectangleOf", "limitedPlace", "photographAt", "placeWith", "MOST_ZOOM"];
const { fitZoom, rectangleOf, limitedPlace, photographAt, placeWith, MOST_ZOOM } = load(["view_place.js"], names);

const canvas = { width: 900, height: 640 };
const photograph = { width: 4000, height: 3000 };
const FIT = { zoom: "fit", centre: [0.5, 0.5] };
const near = (one, other) => one.forEach((each, index) => assert.ok(Math.abs(each - other[index]) < 1e-3, `${one}, not ${other}`));

test("at fit the whole picture is in the middle", () => {
  const { left, top, width, height } = rectangleOf(FIT, canvas, photograph);
  near([left, top, width, height], [23, 0, 853.333, 640]);
});

test("at 100 % the picture lies on whole pixels", () => {
  const { left, top, width, height } = rectangleOf({ zoom: 1, centre: [0.30001, 0.7] }, canvas, photograph);
  assert.deepEqual([left, top, width, height], [-750, -1780, 4000, 3000]);
});

test("the picture cannot be lost", () => {
  assert.deepEqual(limitedPlace({ zoom: 0.01, centre: [3, 3] }, canvas, photograph), FIT);
  assert.deepEqual(limitedPlace({ zoom: 1, centre: [-5, 9] }, canvas, photograph).centre, [0.1125, 1 - 320 / 3000]);
  const wide = limitedPlace({ zoom: 0.22, centre: [0, 0] }, canvas, photograph);
  assert.equal(wide.centre[0], 0.5, "narrower than the canvas: in its middle");
  assert.equal(limitedPlace({ zoom: 99, centre: [0.5, 0.5] }, canvas, photograph).zoom, MOST_ZOOM);
});

test("a small picture is enlarged to fit, and further only up to the limit", () => {
  const icon = { width: 32, height: 32 };
  assert.equal(fitZoom(canvas, icon), 20);
  assert.deepEqual(limitedPlace({ zoom: 25, centre: [0.1, 0.5] }, canvas, icon), FIT);
});

test("what is under the pointer stays there while zooming", () => {
  const pointer = [300, 200];
  const at = photographAt(FIT, pointer, canvas, photograph);
  const place = placeWith(1.5, at, pointer, canvas, photograph);
  assert.equal(place.zoom, 1.5);
  near(photographAt(place, pointer, canvas, photograph), at);
});

test("the page's scripts fit into one function body: no name is declared twice", () => {
  const scripts = ["transfer_file.js", "transfer_layers.js", "transfer_mixer.js", "transfer_shader.js", "view_place.js"];
  const { makeTransferView, attachGestures } = load(
    [...scripts, "transfer_view.js", "view_gestures.js", "keep.js"],
    ["makeTransferView", "attachGestures"],
  );
  assert.equal(makeTransferView({ getContext: () => null }), null);
  assert.equal(typeof attachGestures, "function");
});
