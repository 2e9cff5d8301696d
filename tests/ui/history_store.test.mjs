// The steps of a tab: what undo and redo go to, and which edits are one step.
import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./load_scripts.mjs";

const names = ["Steps", "MOST_STEPS", "stepText", "isSameEdit"];
globalThis.rounded = (strength) => Number(strength).toFixed(2);
globalThis.KEPT = "test";
const { Steps, MOST_STEPS, stepText, isSameEdit } = load(["history_store.js"], names);

const layer = (instruction, strength, is_on = true) => ({ instruction, strength, is_on });
const inputs = (instruction, ...layers) => ({ photograph: "a.jpg", instruction, seed: 0, steps: 2, guidance: 1, layers });

test("something new forgets what was undone, and only that", () => {
  const steps = new Steps();
  for (const name of ["one", "two", "three"]) steps.push({ id: name });
  assert.equal(steps.canRedo, false);
  steps.at = 0;
  assert.deepEqual([steps.canUndo, steps.canRedo], [false, true]);
  steps.push({ id: "four" });
  assert.deepEqual([steps.list.map(({ id }) => id), steps.at], [["one", "four"], 1]);
});

test("the oldest steps go, and the newest is current", () => {
  const steps = new Steps();
  for (let number = 0; number < MOST_STEPS + 5; number++) steps.push({ id: number });
  assert.deepEqual([steps.list.length, steps.current.id, steps.list[0].id], [MOST_STEPS, MOST_STEPS + 4, 5]);
});

test("a reload goes on where the tab was", () => {
  const steps = new Steps(JSON.parse(JSON.stringify({ list: [{ id: 1 }, { id: 2 }], at: 0 })));
  assert.equal(steps.current.id, 1);
  assert.equal(new Steps(undefined).current, null);
});

test("a photograph that was sent again is renamed in every step", () => {
  const steps = new Steps();
  steps.push({ source: "a.jpg", inputs: { photograph: "b.jpg" } });
  steps.push({ source: "b.jpg", inputs: { photograph: "a.jpg" } });
  steps.rename("a.jpg", "c.jpg");
  assert.deepEqual(steps.list.map((step) => [step.source, step.inputs.photograph]), [["c.jpg", "b.jpg"], ["b.jpg", "c.jpg"]]);
});

test("a step is named by all its edits that are on", () => {
  const two = inputs("add fog", layer("make it night", 0.6), layer("make it sepia", 1, false), layer("add fog", 1));
  assert.equal(stepText({ kind: "edit", inputs: two, strength: 0.3 }), "make it night 0.60, add fog 0.30");
  assert.equal(stepText({ kind: "source", inputs: inputs("add fog"), strength: 1 }), "new source, after add fog 1.00");
});

test("a list whose sliders have moved is the same step; another list is not", () => {
  const before = inputs("add fog", layer("make it night", 0.6), layer("add fog", 1));
  assert.ok(isSameEdit(before, inputs("add fog", layer("make it night", 0.2), layer("add fog", 0.5))));
  assert.ok(!isSameEdit(before, inputs("add fog", layer("make it night", 0.6, false), layer("add fog", 1))));
  assert.ok(isSameEdit(inputs("add fog"), inputs("add fog")) && !isSameEdit(inputs("add fog"), inputs("add snow")));
});
