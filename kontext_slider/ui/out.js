// What a restored edit or a link brings to the canvas, and the tools that take an edit elsewhere. Given by canvas.js.
stage.addEventListener("edit", ({ detail }) => {
  if (typeof detail.strength !== "number") return;
  strength = Math.min(scale.highest, detail.strength);
  place();
  keep({ strength });
});
