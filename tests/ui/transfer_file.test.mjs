// Reading a transfer's file, and where strengths lie between transfers.
import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "./load_scripts.mjs";

const names = ["parseTransfer", "identityTransfer", "neighbours", "strengthTable"];
const { parseTransfer, identityTransfer, neighbours, strengthTable } = load(["transfer_file.js"], names);

// tensors: {name: [shape, numbers]}
function safetensors(tensors, dtype = "F16") {
  const header = { __metadata__: { note: "é" } };
  const data = Object.values(tensors).flatMap(([, numbers]) => numbers);
  let start = 0;
  for (const [name, [shape, numbers]] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [start, start + 2 * numbers.length] };
    start += 2 * numbers.length;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + 2 * data.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  file.set(new Uint8Array(Uint16Array.from(data).buffer), 8 + text.length);
  return file.buffer;
}

const counted = (count) => [...Array(count).keys()];
const affine = [[3, 2, 1, 4], counted(24)];

test("a file is read whatever the parity of its header", () => {
  for (const more of [0, 1]) {
    const file = safetensors({ affine, detail: [[1, 2, 3], counted(6)], ["x".repeat(more)]: [[1], [9]] });
    const read = parseTransfer(file);
    assert.deepEqual(read.affine, { width: 1, height: 2, data: Uint16Array.from(counted(24)) });
    assert.deepEqual(read.detail, { width: 2, height: 1, data: Uint16Array.from(counted(6)) });
    assert.deepEqual(read.metadata, { note: "é" });
  }
  assert.equal(parseTransfer(safetensors({ affine })).detail, null);
});

test("other files are refused in a sentence", () => {
  const whole = safetensors({ affine });
  const bad = [
    [new ArrayBuffer(3), /header is cut off/],
    [whole.slice(0, 20), /header is cut off/],
    [whole.slice(0, -2), /affine is cut off/],
    [safetensors({ affine }, "BF16"), /half floats/],
    [safetensors({ detail: [[1, 2, 3], counted(6)] }), /no affine/],
    [safetensors({ affine: [[2, 2, 1, 4], counted(16)] }), /shape of affine/],
    [safetensors({ affine, detail: [[1, 2, 4], counted(8)] }), /shape of detail/],
  ];
  for (const [file, sentence] of bad) assert.throws(() => parseTransfer(file), sentence);
});

test("the identity has ones in the diagonal and no detail", () => {
  const { affine: { data }, detail } = identityTransfer(2, 1);
  const one = 0x3c00;
  assert.deepEqual([...data], [one, 0, 0, 0, one, 0, 0, 0, 0, one, 0, 0, 0, one, 0, 0, 0, 0, one, 0, 0, 0, one, 0]);
  assert.equal(detail, null);
});

test("a strength lies between its neighbours, and the ends hold beyond", () => {
  const strengths = [0.1, 0.2, 0.6, 1];
  assert.deepEqual(neighbours(strengths, 0), { lower: 0, upper: 0, part: 0 });
  assert.deepEqual(neighbours(strengths, 0.2), { lower: 1, upper: 2, part: 0 });
  const { lower, upper, part } = neighbours(strengths, 0.5);
  assert.deepEqual([lower, upper, part.toFixed(9)], [1, 2, "0.750000000"]);
  assert.deepEqual(neighbours(strengths, 1), { lower: 3, upper: 3, part: 0 });
  assert.deepEqual(neighbours(strengths, 7), { lower: 3, upper: 3, part: 0 });
});

test("the table says the same as looking between the neighbours, for each layer that there is", () => {
  const strengths = [0, 0.05, 0.3, 0.975, 1.5];
  const layers = [4, 0, 2, 3, 1];
  const steps = 1200;
  const table = strengthTable(strengths, layers, steps);
  for (let strength = 0; strength < 1.5; strength += 0.00731) {
    const walked = (strength / 1.5) * steps;
    const entry = table.subarray(4 * Math.floor(walked), 4 * Math.floor(walked) + 4);
    const exact = neighbours(strengths, strength);
    assert.deepEqual([entry[0], entry[1]], [layers[exact.lower], layers[exact.upper]], "at " + strength);
    const part = entry[2] + (walked % 1) * (entry[3] - entry[2]);
    assert.ok(Math.abs(part - exact.part) < 1e-4, `${part}, not ${exact.part}, at ${strength}`);
  }
  assert.deepEqual([...strengthTable([0.5], [7], 2)], [7, 7, 0, 0, 7, 7, 0, 0]);
});
