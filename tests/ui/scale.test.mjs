// How strengths lie along the slider, and how a typed strength is read.
import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./load_scripts.mjs";

const { Scale, strengthText, typedStrength } = load(["scale.js"], ["Scale", "strengthText", "typedStrength"]);

const CURVE = { strengths: [0, 0.5, 1], changes: [0, 10, 40], is_flat: false };
const even = (curve = CURVE) => Object.assign(new Scale(), { curve, wantsEven: true });

test("without even steps a position is the strength, to two digits", () => {
  const scale = new Scale();
  assert.equal(scale.strengthAt(0.337), 0.34);
  assert.equal(scale.positionOf(0.337), 0.337, "a typed strength stays where it is");
});

test("with even steps a position is a share of the change", () => {
  const scale = even();
  assert.ok(scale.isEven);
  for (const [position, strength] of [[0, 0], [0.125, 0.25], [0.25, 0.5], [0.625, 0.75], [1, 1]]) {
    assert.equal(scale.strengthAt(position), strength);
    assert.equal(scale.positionOf(strength), position);
  }
});

test("steps are even only where the whole slider is measured and something changes", () => {
  const scale = even();
  scale.highest = 1.5;
  assert.equal(scale.isEven, false);
  assert.equal(even(null).isEven, false);
  assert.equal(even({ strengths: [0, 1], changes: [0, 0], is_flat: true }).isEven, false);
  scale.curve = { strengths: [0, 1, 1.5], changes: [0, 30, 40], is_flat: false };
  assert.equal(scale.strengthAt(1.5), 1.5);
  assert.equal(scale.shareOf(1), 0.75, "1 is where three quarters of the change are");
});

test("the strip's strengths are those of the server", () => {
  assert.deepEqual(even().evenStrengths(5), [0, 0.5, 0.6667, 0.8333, 1]); // engine/response.py gives the same
  const beyond = even({ strengths: [0, 1, 1.5], changes: [0, 30, 40], is_flat: false });
  assert.deepEqual(beyond.evenStrengths(4), [0, 0.3333, 0.6667, 1], "a strip ends at the full edit");
});

test("a stretch without any change cannot be divided by", () => {
  const still = even({ strengths: [0, 0.4, 0.6, 1], changes: [0, 20, 20, 40], is_flat: false });
  for (let position = 0; position <= 1; position += 0.01) assert.ok(Number.isFinite(still.strengthAt(position)));
  assert.equal(still.positionOf(0.5), 0.5);
});

test("what a person types", () => {
  const typed = { "0.45": 0.45, ".45": 0.45, " 0,45 ": 0.45, "45%": 0.45, "45 %": 0.45, "1": 1, "1.": 1, "0.1234": 0.1234 };
  for (const [text, strength] of Object.entries(typed)) assert.equal(typedStrength(text), strength, text);
  for (const text of ["", ".", "%", "abc", "1e-1", "-0.5", "0.4.5", "0x1", "NaN"]) assert.ok(Number.isNaN(typedStrength(text)), text);
});

test("a strength for people has two digits, and more only where there are more", () => {
  assert.deepEqual([0.5, 0.45, 1, 0.123, 0.1234].map(strengthText), ["0.50", "0.45", "1.00", "0.123", "0.1234"]);
});
