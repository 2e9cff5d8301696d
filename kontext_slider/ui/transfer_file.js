// The file of a transfer (transfer.py: Transfer.pack), and where a strength lies between transfers. Pure functions.
const HALF_ONE = 0x3c00; // 1 as a half float

// A safetensors file: {affine: {width, height, data}, detail: the same or null, metadata: texts by name}.
// affine.data: halfs, three planes (one for each channel of the result) of (height, width, 4): a row of A, then b.
// detail.data: halfs, (height, width, 3). Throws an Error with a sentence for any other file.
function parseTransfer(buffer) {
  const refuse = (why) => {
    throw new Error("This is not the file of a transfer: " + why + ".");
  };
  const length = buffer.byteLength < 8 ? NaN : Number(new DataView(buffer).getBigUint64(0, true));
  if (!(length > 1 && 8 + length <= buffer.byteLength)) refuse("its header is cut off");
  const { __metadata__: metadata = {}, ...tensors } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const read = (name) => {
    const { dtype, shape, data_offsets: [start, end] } = tensors[name];
    const count = shape.reduce((product, side) => product * side, 1);
    if (dtype !== "F16" || end - start !== 2 * count) refuse(name + " does not hold half floats of its shape");
    if (8 + length + end > buffer.byteLength) refuse(name + " is cut off");
    return { shape, data: new Uint16Array(buffer.slice(8 + length + start, 8 + length + end)) };
  };
  const plane = (height, width, data) => ({ width, height, data });
  if (!tensors.affine) refuse("it has no affine");
  const affine = read("affine");
  const [rows, height, width, columns] = affine.shape;
  if (affine.shape.length !== 4 || rows !== 3 || columns !== 4) refuse("the shape of affine is not (3, h, w, 4)");
  const detail = tensors.detail ? read("detail") : null;
  if (detail && (detail.shape.length !== 3 || detail.shape[2] !== 3)) refuse("the shape of detail is not (h, w, 3)");
  return {
    affine: plane(height, width, affine.data),
    detail: detail && plane(detail.shape[0], detail.shape[1], detail.data),
    metadata,
  };
}

// The transfer that changes nothing, its affine of the given size.
function identityTransfer(width, height) {
  const data = new Uint16Array(3 * width * height * 4);
  for (let row = 0; row < 3; row++)
    for (let place = 0; place < width * height; place++) data[4 * (row * width * height + place) + row] = HALF_ONE;
  return { affine: { width, height, data }, detail: null, metadata: {} };
}

// Where a strength lies between ascending `strengths`: {lower, upper, part}, indices and 0 to 1; the ends hold beyond.
function neighbours(strengths, strength) {
  const last = strengths.length - 1;
  const above = strengths.findIndex((each) => each > strength);
  if (above === 0) return { lower: 0, upper: 0, part: 0 };
  if (above < 0) return { lower: last, upper: last, part: 0 };
  const lower = above - 1;
  return { lower, upper: above, part: (strength - strengths[lower]) / (strengths[above] - strengths[lower]) };
}

// The same for every strength at once: `steps` equal steps from the first strength to the last, four floats each: the
// layers of both neighbours, and the part at the step's start and end. Exact where the strengths are ends of steps.
function strengthTable(strengths, layers, steps) {
  const table = new Float32Array(4 * steps);
  const first = strengths[0];
  const step = (strengths[strengths.length - 1] - first) / steps;
  for (let index = 0; index < steps; index++) {
    const { lower, upper } = neighbours(strengths, first + (index + 0.5) * step);
    const partAt = (edge) => {
      if (lower === upper) return 0;
      const part = (first + edge * step - strengths[lower]) / (strengths[upper] - strengths[lower]);
      return Math.min(1, Math.max(0, part));
    };
    table.set([layers[lower], layers[upper], partAt(index), partAt(index + 1)], 4 * index);
  }
  return table;
}
