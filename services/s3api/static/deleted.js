/** The view of the files that were deleted in a folder and below it, and their restore. */

import { at, call } from "./api.js";
import { forgetDeleted } from "./deleting.js";
import { deletedHash, hashOf } from "./location.js";
import { menuButton } from "./menu.js";
import { $, ask, attempt, bdi, cell, count, element, icon, moment, momentInFull, needs, say, sentence, shown, sizeInWords } from "./page.js";
import { failedFiles } from "./results.js";
import { inFolder } from "./uploads.js";
import { showVersions } from "./versions.js";

// A page counts versions, so it can have few deleted files, or none. The user decides about more pages.
const ENOUGH_FILES = 1000;
const MOST_PAGES = 20;

/** The deleted files that are loaded, and the cursor of those that follow. */
const view = { prefix: "", files: [], next: null, signal: null };
let restoring = null; // the AbortController of the restore of a folder

/** Show the deleted files of a folder. */
export async function showDeleted(prefix, signal) {
  if (prefix !== view.prefix) $("deleted-result").replaceChildren();
  Object.assign(view, { prefix, files: [], next: null, signal });
  await loadMore();
}

export function hideDeleted() {
  $("deleted").hidden = true;
  $("deleted-rows").replaceChildren();
  $("deleted-result").replaceChildren();
}

async function loadMore() {
  const { prefix, signal } = view;
  $("deleted").setAttribute("aria-busy", "true");
  try {
    const wanted = view.files.length + ENOUGH_FILES;
    for (let pages = 0; pages === 0 || (view.next && view.files.length < wanted && pages < MOST_PAGES); pages++) {
      const query = { prefix, deleted: true, ...(view.next && { cursor: view.next }) };
      const { content, next } = await call("GET", "versions", { query, signal });
      view.files.push(...content);
      view.next = next ?? null;
    }
    render();
  } finally {
    if (!signal.aborted) $("deleted").removeAttribute("aria-busy");
  }
}

function render() {
  const folders = new Map(); // the number of deleted files in each folder
  const files = [];
  for (const file of view.files) {
    const slash = file.name.indexOf("/", view.prefix.length);
    const folder = file.name.slice(0, slash + 1);
    if (slash < 0 || folder === file.name) files.push(file);
    else folders.set(folder, (folders.get(folder) ?? 0) + 1);
  }
  $("deleted-rows").replaceChildren(...[...folders].map(folderRow), ...files.map(fileRow));
  $("deleted-title").replaceChildren(...(view.prefix ? sentence`Deleted files in ${view.prefix}` : ["Deleted files"]));
  $("deleted-back").href = hashOf(view.prefix);
  const none = view.files.length === 0;
  $("deleted").querySelector("table").hidden = $("deleted-restore").hidden = none;
  $("deleted-count").textContent = count(view.files.length, "deleted file") + (view.next ? " loaded, there are more" : "");
  $("deleted-empty").hidden = !none || view.next !== null;
  $("deleted-more-line").hidden = !view.next;
  $("deleted").hidden = false;
}

function row(name, ...cells) {
  const made = element("tr", { role: "row" }, cell("pick"), ...cells);
  made.dataset.name = name;
  return made;
}

function restoreButton(words, onclick) {
  return needs("write", element("button", { type: "button", class: "plain", "aria-label": `Restore ${words}`, onclick }, "Restore"));
}

function folderRow([prefix, many]) {
  const words = shown(inFolder(prefix));
  return row(
    prefix,
    cell("name", element("a", { href: deletedHash(prefix) }, icon("folder"), bdi(inFolder(prefix)))),
    cell("size", count(many, "file")),
    cell("date"),
    cell("actions", restoreButton(`the folder ${words}`, () => restoreFolder(prefix))),
  );
}

function fileRow({ name, size, last_modified: time }) {
  const words = shown(inFolder(name));
  const deleted = new Date(time);
  return row(
    name,
    cell("name", element("span", { class: "plain-name" }, icon("file"), bdi(inFolder(name)))),
    cell("size", ...(size === undefined ? [] : [element("span", { title: count(size, "byte") }, sizeInWords(size))])),
    cell("date", element("time", { datetime: time, title: momentInFull.format(deleted) }, moment.format(deleted))),
    cell(
      "actions",
      restoreButton(words, () => restoreFile(name)),
      menuButton(words, [["Versions…", () => showVersions(name), "list"]]),
    ),
  );
}

function tell(...parts) {
  $("deleted-result").replaceChildren(...parts);
  say($("deleted-result").textContent);
}

function restoreFile(name) {
  return attempt(async () => {
    await call("POST", at("restore", name));
    forgetDeleted([name]);
    const rows = [...$("deleted-rows").rows];
    const index = rows.findIndex((one) => one.dataset.name === name);
    view.files = view.files.filter((file) => file.name !== name);
    render();
    tell(...sentence`Restored ${inFolder(name)}.`);
    const next = $("deleted-rows").rows[Math.min(index, rows.length - 2)];
    (next?.querySelector(".actions button") ?? $("deleted-title")).focus();
  });
}

/** Ask, and restore all deleted files of a folder. The user can stop it after each page of versions. */
function restoreFolder(prefix) {
  return attempt(async () => {
    const title = prefix ? sentence`Restore all deleted files in ${prefix}?` : ["Restore all deleted files?"];
    const words = "Every folder below it is restored, too. No existing file is replaced.";
    if ((await ask(title, [element("p", {}, words)], [["", "Cancel"], ["restore", "Restore", "primary"]])) !== "restore") return;
    const { signal } = (restoring = new AbortController());
    $("deleted-restore").textContent = "Stop";
    let restored = 0;
    const failed = [];
    let cursor;
    try {
      do {
        const { content, next } = await call("POST", "restore", { json: { prefix, ...(cursor && { cursor }) } });
        const done = content.filter((one) => one.restored);
        forgetDeleted(done.map((one) => one.name));
        restored += done.length;
        failed.push(...content.filter((one) => !one.restored));
        cursor = next;
        tell(`${count(restored, "file")} restored so far…`);
      } while (cursor && !signal.aborted);
    } finally {
      restoring = null;
      $("deleted-restore").textContent = "Restore all";
      const kept = failed.length ? ` ${count(failed.length, "file stays", "files stay")} deleted.` : "";
      const words = `Restored ${count(restored, "file")}.${kept}${cursor ? " The rest was not tried." : ""}`;
      tell(element("p", {}, words), ...failedFiles("Files that stay deleted", failed));
    }
    if (view.signal.aborted) return;
    Object.assign(view, { files: [], next: null });
    await loadMore();
    $("deleted-title").focus();
  });
}

$("deleted-restore").addEventListener("click", () => (restoring ? restoring.abort() : restoreFolder(view.prefix)));
$("deleted-more").addEventListener("click", () => attempt(loadMore));
