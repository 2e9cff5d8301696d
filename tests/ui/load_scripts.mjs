// The page's scripts are parts of one function body (components.py). Here: the named things that some of them declare.
import { readFileSync } from "node:fs";

const folder = new URL("../../kontext_slider/ui/", import.meta.url);

export function load(scripts, names) {
  const body = scripts.map((name) => readFileSync(new URL(name, folder), "utf8")).join("\n");
  return new Function(body + "\nreturn { " + names.join(", ") + " };")();
}
