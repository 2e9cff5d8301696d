// The steps of this tab, and where they are kept: the list in sessionStorage, their pictures in IndexedDB for a day.
const MOST_STEPS = 30;

// What was done in a tab, oldest first, and which of it is current. Doing something new forgets what was undone.
class Steps {
  constructor({ list = [], at = list.length - 1 } = {}) {
    [this.list, this.at] = [list, at];
  }

  get current() {
    return this.list[this.at] || null;
  }

  get canUndo() {
    return this.at > 0;
  }

  get canRedo() {
    return this.at < this.list.length - 1;
  }

  push(step) {
    this.list = [...this.list.slice(0, this.at + 1), step].slice(-MOST_STEPS);
    this.at = this.list.length - 1;
  }

  // A photograph was sent to the server once more and has another path there.
  rename(before, after) {
    for (const step of this.list) {
      if (step.source === before) step.source = after;
      if (step.inputs.photograph === before) step.inputs.photograph = after;
    }
  }
}

function stepText({ kind, inputs, strength }) {
  const on = (inputs.layers || []).filter((layer) => layer.is_on);
  const before = on.slice(0, -1).map((layer) => layer.instruction + " " + rounded(layer.strength) + ", ");
  return (kind === "source" ? "new source, after " : "") + before.join("") + inputs.instruction + " " + rounded(strength);
}

// Whether two edits are the same one: but for where the sliders stand, and for how many frames are in the strip.
function isSameEdit(one, other) {
  const words = ({ photograph, instruction, seed, steps, guidance, layers = [] }) =>
    JSON.stringify([photograph, instruction, seed, steps, guidance, layers.map((each) => [each.instruction, each.is_on])]);
  return words(one) === words(other);
}

const inStepPictures = (use) => inBase(KEPT + "-history", "pictures", "id", use);

async function keepStepPicture(id, blob) {
  await inStepPictures(async (pictures) => {
    pictures.put({ id, blob, time: Date.now() });
    for (const old of await answer(pictures.getAll())) if (old.time < Date.now() - PHOTOGRAPH_MS) pictures.delete(old.id);
  });
}

// The address of a step's picture, "" where it is not kept any more.
async function stepPicture(id) {
  const entry = await inStepPictures((pictures) => answer(pictures.get(id)));
  return entry ? URL.createObjectURL(entry.blob) : "";
}
