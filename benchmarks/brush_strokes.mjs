// The page's brush on strokes that bench_brush.py made: node brush_strokes.mjs FOLDER [NAME=VALUE ...]
// FOLDER has strokes.json, {width, height, cases: [[[x, y, radius], ...], ...]}, and pictures.bin, RGBA of every case.
// Writes coverage.bin: for every case two maps of bytes, without and with the photograph's edges.
// NAME=VALUE puts another number in the place of a constant of edge_aware.js.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [folder, ...constants] = process.argv.slice(2);
const SOFTNESS = 0.5;
const scripts = new URL("../kontext_slider/ui/", import.meta.url);
let body = ["brush_shapes.js", "strength_map.js", "edge_aware.js"].map((name) => readFileSync(new URL(name, scripts), "utf8")).join("\n");
for (const [name, value] of constants.map((each) => each.split("="))) {
  const pattern = new RegExp(`const ${name} = [^;]+;`);
  if (!pattern.test(body)) throw new Error(`edge_aware.js has no constant ${name}.`);
  body = body.replace(pattern, `const ${name} = ${value};`);
}
const { edgeColours, coverToEdges, coverLine } = new Function(body + "\nreturn { edgeColours, coverToEdges, coverLine };")();

const { width, height, cases } = JSON.parse(readFileSync(join(folder, "strokes.json"), "utf8"));
const pictures = readFileSync(join(folder, "pictures.bin"));
const maps = [];
let [milliseconds, count] = [0, 0];
cases.forEach((dabs, number) => {
  const data = pictures.subarray(4 * width * height * number, 4 * width * height * (number + 1));
  const colours = edgeColours({ width, height, data });
  const [plain, edges] = [0, 1].map(() => ({ width, height, data: new Uint8Array(width * height) }));
  for (const [x, y, radius] of dabs) {
    const middle = { x, y, pressure: 1 };
    coverLine(plain, middle, middle, radius, SOFTNESS);
    const start = performance.now();
    coverToEdges(edges, colours, middle, radius, SOFTNESS);
    milliseconds += performance.now() - start;
    count++;
  }
  maps.push(plain.data, edges.data);
});
writeFileSync(join(folder, "coverage.bin"), Buffer.concat(maps));
console.log(JSON.stringify({ dabs: count, milliseconds: milliseconds / count }));
