/** Renaming a file or a folder. A new folder in the name moves it. */

import { call } from "./api.js";
import { $, attempt, count, element, say, sentence, shown, unauthorized } from "./page.js";
import { failedFiles } from "./results.js";
import { inFolder } from "./uploads.js";

const AT_ONCE = 100;

/** The page: `refresh()` loads its files again, and `focus(name)` goes to a file or a folder. */
let page = null;
/** What the dialog renames: `name`, and the `etag` of a file. */
let source = null;
let stopped = false;
let running = false;

export function startRenaming(host) {
  page = host;
}

const isFolder = () => source.etag === undefined;

/** Ask for the new name of a file, or of a folder, which has no `etag`. */
export function rename(name, etag) {
  source = { name, etag };
  running = false;
  $("rename-title").replaceChildren(...(isFolder() ? sentence`Rename the folder ${inFolder(name)}` : sentence`Rename ${inFolder(name)}`));
  $("rename-note").textContent = isFolder()
    ? "The name begins at the top folder. Every file of the folder gets the new name; no other file is replaced."
    : "The name begins at the top folder, so another folder in it moves the file. No other file is replaced.";
  const field = $("rename-name");
  field.value = name;
  show();
  $("rename-result").replaceChildren();
  $("rename").showModal();
  field.focus();
  // Select what a user changes most: the last part of the name, without its extension.
  const end = isFolder() ? name.length - 1 : name.length;
  const start = name.lastIndexOf("/", end - 1) + 1;
  const dot = isFolder() ? -1 : name.lastIndexOf(".");
  field.setSelectionRange(start, dot > start ? dot : end);
}

/** Show whether a rename runs. The name cannot be changed meanwhile. */
function show() {
  $("rename-name").readOnly = $("rename-go").disabled = running;
  $("rename-cancel").textContent = running && isFolder() ? "Stop" : "Cancel";
  $("rename-cancel").disabled = running && !isFolder();
}

const tell = (...parts) => $("rename-result").replaceChildren(...parts);

$("rename-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  const { name } = source;
  let wanted = $("rename-name").value;
  if (isFolder() && !wanted.endsWith("/")) wanted += "/";
  if (!isFolder() && wanted.endsWith("/")) wanted += name.split("/").pop(); // a folder alone keeps the file's name
  if (wanted === name) return $("rename").close();
  running = true;
  stopped = false;
  show();
  tell("Renaming…");
  let done = false;
  try {
    done = await (isFolder() ? moveFolder(wanted) : moveFile(wanted));
  } catch (failure) {
    if (failure.status === 401) {
      $("rename").close();
      unauthorized(failure);
      return;
    }
    tell(shown(failure.message));
    if (isFolder()) await attempt(() => page.refresh());
  } finally {
    running = false;
    show();
  }
  if (!done) {
    if (!$("rename").open) $("rename").showModal(); // a second Escape closes it always
    return $("rename-name").focus();
  }
  $("rename").close();
  await attempt(() => page.refresh());
  page.focus(wanted);
  say(`Renamed ${shown(inFolder(name))} to ${shown(wanted)}.`);
});

async function moveFile(destination) {
  // The file that the user sees, and no newer one.
  const json = { source: source.name, destination, source_etag: source.etag };
  await call("POST", "move", { json });
  return true;
}

/** Move the files of the folder, some in each request. True if all of them moved. */
async function moveFolder(destination) {
  let moved = 0;
  const stay = [];
  let cursor;
  do {
    const json = { source: source.name, destination, limit: AT_ONCE, ...(cursor && { cursor }) };
    const { content, next } = await call("POST", "move/folder", { json });
    moved += content.filter((one) => one.moved).length;
    stay.push(...content.filter((one) => !one.moved));
    cursor = next;
    tell(`${count(moved, "file")} renamed so far…`);
  } while (cursor && !stopped);
  if (moved && !stay.length && !cursor) return true;
  await page.refresh();
  tell(element("p", {}, resultInWords(moved, stay.length, cursor)), ...failedFiles("Files that keep their names", stay));
  return false;
}

function resultInWords(moved, stay, more) {
  if (!moved && !stay && !more) return "The folder has no files any more.";
  const kept = stay ? ` ${count(stay, "file keeps its name", "files keep their names")}.` : "";
  return `Renamed ${count(moved, "file")}.${kept}${more ? " The rest was not tried." : ""}`;
}

$("rename-cancel").addEventListener("click", () => (running ? (stopped = true) : $("rename").close()));

// Escape must not hide a rename that goes on.
$("rename").addEventListener("cancel", (event) => {
  if (!running) return;
  event.preventDefault();
  stopped = true;
});
