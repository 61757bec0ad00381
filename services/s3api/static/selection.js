/** The selection of files, and what can be done with it. */

import { $, count, element } from "./page.js";

const picked = new Set();

export const selected = () => [...picked];

/** The box that selects a file. */
export function box(name, words) {
  const made = element("input", { type: "checkbox", "aria-label": `Select ${words}`, onchange: () => pick(name, made.checked) });
  made.checked = picked.has(name);
  return made;
}

function pick(name, on) {
  if (on) picked.add(name);
  else picked.delete(name);
  showSelection();
}

/** End the selection of the files for which `goes(name)` is true. */
export function unpick(goes) {
  for (const name of picked) if (goes(name)) picked.delete(name);
}

const visibleFiles = () => [...$("files").rows].filter((row) => !row.hidden);

export function showSelection() {
  $("selection").hidden = picked.size === 0;
  $("delete-selected").textContent = `Delete ${count(picked.size, "file")}`;
  $("zip-selected").textContent = `Download ${count(picked.size, "file")} as ZIP`;
  const rows = visibleFiles();
  const on = rows.filter((row) => picked.has(row.dataset.name)).length;
  $("pick-all").checked = rows.length > 0 && on === rows.length;
  $("pick-all").indeterminate = on > 0 && on < rows.length;
  $("pick-all").disabled = rows.length === 0;
}

$("pick-all").addEventListener("change", () => {
  const on = $("pick-all").checked;
  for (const row of visibleFiles()) {
    row.querySelector("input").checked = on;
    if (on) picked.add(row.dataset.name);
    else picked.delete(row.dataset.name);
  }
  showSelection();
});
