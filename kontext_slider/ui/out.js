// What a restored edit or a link brings to the canvas. Given by canvas.js.
stage.addEventListener("edit", ({ detail }) => {
  if (typeof detail.strength !== "number") return;
  placeAt(detail.strength);
});

// What the page's address names (links.py), once: a page that is loaded again has what was kept since.
function followLink() {
  const named = Object.fromEntries(link());
  if (!link().size || kept().isFollowed) return;
  const wanted = Number(named.strength || NaN);
  keep({ isFollowed: true, ...(wanted >= 0 && wanted <= 1 && { strength: wanted }) });
  reached(sayConnection).then(() => trigger("follow", named));
}

followLink();
