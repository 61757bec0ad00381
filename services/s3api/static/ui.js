/** The page: its listing, and the form for the token. */

import { folderMeant, home, isWithin, learn, may, offerHome, unlearn } from "./access.js";
import { Failure, call, token } from "./api.js";
import { hideDeleted, showDeleted } from "./deleted.js";
import { remove, removeFolder, startDeleting } from "./deleting.js";
import { downloadFiles, downloadFolder, openFile, showFolderLinks, showLink } from "./links.js";
import { deletedHash, hashOf, place, searchHash } from "./location.js";
import { menuButton } from "./menu.js";
import {
  $,
  attempt,
  bdi,
  cell,
  closeNotice,
  count,
  element,
  focusTitle,
  hideProblem,
  icon,
  iconButton,
  moment,
  momentInFull,
  needs,
  number,
  say,
  showProblem,
  shown,
  sizeInWords,
  whenUnauthorized,
} from "./page.js";
import { previewButton } from "./preview.js";
import { rename, startRenaming } from "./rename.js";
import { isSearching, search, showSearchLine } from "./search.js";
import { box, selected, showSelection, unpick } from "./selection.js";
import { isDefault, sorted, sortedFolders, startSorting } from "./sorting.js";
import { offerRequests, startRequesting } from "./upload_link_dialog.js";
import { cancelAll, inFolder, removeEnded, start } from "./uploads.js";
import { showVersions, startVersions } from "./versions.js";

// The first page is small, so that a folder appears at once. S3 lists at most 1,000 entries at a time.
const FIRST_PAGE = 200;
const NEXT_PAGES = 1000;
// A filter or an order needs the whole folder. Beyond this many entries, only the user loads more.
const LOADED_UNASKED = 20_000;

// --- the token

/** Show the form for the token, and remove the listing from the page. */
function askForToken(failure) {
  unlearn();
  clearListing();
  $("bucket").textContent = document.title = "Files";
  $("token-why").textContent = token.get() === null ? "This service needs a token." : failure.message;
  $("token").hidden = false;
  $("browser").hidden = true;
  $("forget").hidden = true;
  $("token-value").focus();
}

$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  unlearn();
  token.set($("token-value").value.trim());
  $("token-value").value = "";
  load({ focus: true });
});

$("forget").addEventListener("click", async () => {
  await cancelAll(); // this needs the token
  token.forget();
  unlearn();
  removeEnded();
  closeNotice();
  load({ focus: true });
  say("You are signed out.");
});

// --- the folder

/** The entries shown: those that are loaded, in the order of S3. `text` is what a search looks for. */
const listing = { prefix: "", text: "", deleted: false, folders: [], files: [], next: null, loading: null };

async function page(prefix, cursor, signal, limit = cursor ? NEXT_PAGES : FIRST_PAGE) {
  const query = { prefix, delimiter: "/", limit, details: true };
  if (cursor) query.cursor = cursor;
  return call("GET", "list_files", { query, signal });
}

/** Show the folder, or the search, in the location. `again` reloads as many entries as were loaded, and keeps the selection. */
async function load({ focus = false, again = false } = {}) {
  listing.loading?.abort();
  const { signal } = (listing.loading = new AbortController());
  $("listing").setAttribute("aria-busy", "true");
  const wanted = again ? entries() : 0;
  let { prefix, text, deleted } = place();
  try {
    await learn(signal);
    if (!prefix && home()) {
      prefix = home();
      history.replaceState(null, "", text ? searchHash(prefix, text) : deleted ? deletedHash(prefix) : hashOf(prefix));
    }
    const found = { folders: [], files: [], next: null };
    let answer = null;
    if (text || deleted) {
      // Their files come later. A listing names the bucket.
      if ($("bucket").textContent === "Files") answer = await page(prefix, null, signal, 1);
    } else {
      do {
        answer = await page(prefix, found.next, signal, again ? NEXT_PAGES : undefined);
        found.folders.push(...answer.prefixes);
        found.files.push(...answer.content);
        found.next = answer.next ?? null;
      } while (found.next && found.folders.length + found.files.length < wanted);
    }
    if (answer) $("bucket").textContent = /'([^']+)'$/.exec(answer.message)?.[1] ?? "Files";
    const names = new Set(found.files.map((file) => file.name));
    unpick((name) => !again || !names.has(name));
    if (!again) $("filter").value = "";
    Object.assign(listing, found, { prefix, text, deleted });
    const bucket = $("bucket").textContent;
    if (deleted) await showDeleted(prefix, signal);
    else hideDeleted();
    document.title = text ? `${shown(text)} – ${bucket}` : prefix ? `${shown(prefix)} – ${bucket}` : bucket;
    $("token").hidden = true;
    $("go").hidden = true;
    $("browser").hidden = false;
    $("listing").hidden = deleted;
    $("forget").hidden = token.get() === null;
    if (!again) hideProblem();
    render();
    if (focus) focusTitle();
    if (deleted) return say(`${$("deleted-title").textContent}: ${$("deleted-count").textContent}.`);
    if (text) {
      $("listing").removeAttribute("aria-busy");
      await search(prefix, text, signal, { add: addFound, again: () => load({ focus: true }) });
      if (!isDefault()) arrange();
      filter();
      return;
    }
    if (!again) say(`${prefix ? shown(prefix) : bucket}: ${loadedInWords()}.`);
    if (listing.next && !isDefault()) loadAll(LOADED_UNASKED);
  } catch (failure) {
    if (signal.aborted) return;
    if (failure.status === 401) return askForToken(failure);
    if (!(failure instanceof Failure)) console.error(failure);
    // A token that may not list can still upload.
    clearListing(prefix);
    $("token").hidden = true;
    $("browser").hidden = false;
    $("listing").hidden = true;
    $("forget").hidden = token.get() === null;
    $("go").hidden = failure.status !== 403;
    offerHome();
    showProblem(failure, "Try again", () => load({ focus: true }));
  } finally {
    if (!signal.aborted) $("listing").removeAttribute("aria-busy");
  }
}

function clearListing(prefix = "") {
  Object.assign(listing, { prefix, text: "", deleted: false, folders: [], files: [], next: null });
  unpick(() => true);
  hideDeleted();
  render();
}

/** Show more files that the search has found. */
function addFound(files) {
  listing.files.push(...files);
  $("files").append(...files.map(fileRow));
  filter();
}

/** The files are deleted: take them off the page. */
async function removed(names) {
  const gone = new Set(names);
  unpick((name) => gone.has(name));
  if (!listing.text) return load({ again: true });
  listing.files = listing.files.filter((file) => !gone.has(file.name));
  render();
}

const entries = () => listing.folders.length + listing.files.length;

let loadingAll = null; // the AbortController of the run that loads the rest of the folder

/** Load one more page, or pages until `most` entries are loaded. The user can stop it, and so does another folder. */
async function loadAll(most) {
  if (loadingAll) return;
  const { prefix, loading } = listing;
  const stop = (loadingAll = new AbortController());
  const signal = AbortSignal.any([loading.signal, stop.signal]);
  const focused = document.activeElement === $("more") || document.activeElement === $("all");
  $("more").disabled = true;
  $("all").textContent = "Stop loading";
  await attempt(async () => {
    do {
      const answer = await page(prefix, listing.next, signal);
      listing.folders.push(...answer.prefixes);
      listing.files.push(...answer.content);
      listing.next = answer.next ?? null;
      $("folders").append(...answer.prefixes.map(folderRow));
      $("files").append(...answer.content.map(fileRow));
      filter();
    } while (listing.next && entries() < most);
  });
  loadingAll = null;
  $("more").disabled = false;
  $("all").textContent = "Load all";
  if (loading.signal.aborted) return;
  if (!isDefault()) arrange();
  say($("count").textContent);
  if (focused) (listing.next ? $("more") : $("listing-title")).focus();
}

/** Put the rows in the chosen order. */
function arrange() {
  const rows = new Map([...$("folders").rows, ...$("files").rows].map((row) => [row.dataset.name, row]));
  for (const prefix of sortedFolders(listing.folders)) $("folders").append(rows.get(prefix));
  for (const { name } of sorted(listing.files)) $("files").append(rows.get(name));
}

const entriesInWords = (between) =>
  [
    listing.folders.length ? count(listing.folders.length, "folder") : "",
    listing.files.length || !listing.folders.length ? count(listing.files.length, "file") : "",
  ]
    .filter(Boolean)
    .join(between);

const loadedInWords = () => entriesInWords(", ") + (listing.next ? " loaded, there are more" : "");

function render() {
  const focused = document.activeElement?.closest?.("#files tr") && {
    name: document.activeElement.closest("tr").dataset.name,
    what: document.activeElement.className,
    label: document.activeElement.title,
  };
  renderCrumbs();
  $("folders").replaceChildren();
  $("files").replaceChildren();
  for (const prefix of sortedFolders(listing.folders)) $("folders").append(folderRow(prefix));
  for (const file of sorted(listing.files)) $("files").append(fileRow(file));
  filter();
  if (!focused) return;
  const row = rowOf(focused.name);
  const same = [...(row?.querySelectorAll("button, input") ?? [])].find(
    (one) => one.className === focused.what && one.title === focused.label,
  );
  (same ?? $("listing-title")).focus();
}

const rowOf = (name) => [...$("folders").rows, ...$("files").rows].find((row) => row.dataset.name === name);

function focusOn(name) {
  const shownAs = rowOf(name)?.querySelector(".name > a, .open");
  if (shownAs) shownAs.focus();
  else focusTitle();
}

function renderCrumbs() {
  const steps = listing.prefix.match(/[^/]*\/|[^/]+$/g) ?? [];
  const list = element("ol", {});
  let prefix = "";
  const link = (to, label) =>
    element("a", { href: hashOf(to), "aria-current": to === listing.prefix && !listing.text && !listing.deleted ? "page" : null }, label);
  for (const name of ["", ...steps]) {
    prefix += name;
    const label = name ? bdi(name.replace(/(.)\/$/, "$1")) : "All files";
    // The token may not list the folders above its own. "All files" leads to its own.
    const step = prefix && !isWithin(prefix) ? element("span", {}, label) : link(prefix, label);
    list.append(element("li", {}, step));
  }
  const view = listing.text ? "Search" : listing.deleted ? "Deleted files" : "";
  if (view) list.append(element("li", {}, element("span", { "aria-current": "page" }, view)));
  $("show-deleted").href = deletedHash(listing.prefix);
  $("show-deleted").hidden = listing.deleted;
  $("crumbs").replaceChildren(list);
  offerRequests(listing.prefix);
  showSearchLine(listing.prefix, listing.text);
  const title = listing.prefix ? shown(listing.prefix) : "All files";
  $("listing-title").replaceChildren(listing.text ? `Search for ${shown(listing.text)}: ${title}` : title);
}

function folderRow(prefix) {
  const link = element("a", { href: hashOf(prefix) }, icon("folder"), bdi(inFolder(prefix)));
  const words = shown(inFolder(prefix));
  const actions = [
    needs("read", iconButton("download", ["Download as ZIP", words], () => downloadFolder(prefix))),
    needs("read", iconButton("link", ["Copy links", `to the files in ${words}`], () => showFolderLinks(prefix))),
    needs("delete", iconButton("delete", ["Delete folder", words], () => removeFolder(prefix))),
    menuButton(words, [["Rename or move…", () => rename(prefix), "list read write delete"]]),
  ];
  const row = element("tr", { role: "row" }, cell("pick"), cell("name", link), cell("size"), cell("date"), cell("actions", ...actions));
  row.dataset.name = prefix;
  return row;
}

function fileRow(file) {
  const { name, size } = file;
  const words = shown(inFolder(name));
  const changed = new Date(file.last_modified);
  const open = element(
    "button",
    { type: "button", class: "open", title: words, disabled: !may("read"), onclick: () => openFile(name, false) },
    icon("file"),
    bdi(inFolder(name)),
  );
  const row = element(
    "tr",
    { role: "row" },
    cell("pick", box(name, words)),
    cell("name", open, ...previewButton(file).map((button) => needs("read", button))),
    cell("size", element("span", { title: count(size, "byte") }, sizeInWords(size))),
    cell("date", element("time", { datetime: file.last_modified, title: momentInFull.format(changed) }, moment.format(changed))),
    cell(
      "actions",
      needs("read", iconButton("download", ["Download", words], () => openFile(name, true))),
      needs("read", iconButton("link", ["Copy link", `to ${words}`], () => showLink(name))),
      needs("delete", iconButton("delete", ["Delete", words], () => remove([name]))),
      menuButton(words, [["Rename or move…", () => rename(name, file.etag), "read write delete"], ["Versions…", () => showVersions(name), "list"]]),
    ),
  );
  row.dataset.name = name;
  return row;
}

// --- filtering and ordering

function filter() {
  const wanted = $("filter").value.trim().toLowerCase();
  const rows = [...$("folders").rows, ...$("files").rows];
  for (const row of rows) row.hidden = !inFolder(row.dataset.name).toLowerCase().includes(wanted);
  const visible = rows.filter((row) => !row.hidden).length;
  $("find-bar").hidden = rows.length === 0 && !listing.text;
  $("search-below").hidden = !wanted;
  const words = wanted ? `${number.format(visible)} of ${loadedInWords()}` : loadedInWords();
  $("count").textContent = words;
  $("listing").querySelector("table").hidden = visible === 0;
  $("empty").hidden = visible > 0;
  $("empty").querySelector("p").textContent = wanted
    ? `No match in the ${entriesInWords(" and ")} loaded.` + (listing.next ? " There is more to load." : "")
    : emptyInWords();
  $("more-line").hidden = !listing.next;
  showSelection();
}

function emptyInWords() {
  if (listing.text) return isSearching() ? "Searching…" : "No file found.";
  return `No files here yet.${may("write") ? " Drop some, or choose them with Upload files." : ""}`;
}

let typing = 0;
$("filter").addEventListener("input", () => {
  filter();
  say($("count").textContent);
  clearTimeout(typing);
  if (!$("filter").value.trim()) return;
  typing = setTimeout(() => {
    if (listing.next && entries() < LOADED_UNASKED) loadAll(LOADED_UNASKED);
  }, 300);
});
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("filter").value.trim();
  if (text) location.hash = searchHash(listing.prefix, text);
});
$("more").addEventListener("click", () => loadAll(0));
$("all").addEventListener("click", () => (loadingAll ? loadingAll.abort() : loadAll(Infinity)));
startSorting(() => {
  arrange();
  if (listing.next && !isDefault() && entries() < LOADED_UNASKED) loadAll(LOADED_UNASKED);
});
$("delete-selected").addEventListener("click", () => remove(selected()));
$("zip-selected").addEventListener("click", () => downloadFiles(selected()));
$("go").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = hashOf(folderMeant($("go-folder").value));
});

$("notice-close").addEventListener("click", closeNotice);

// --- beginning

window.addEventListener("hashchange", () => load({ focus: document.activeElement?.closest("#listing, #deleted, #crumbs, #show-deleted, #go") !== null }));

whenUnauthorized(askForToken);
startRequesting(() => listing.prefix);
startDeleting({
  refresh: () => load({ again: true }),
  removed,
  focus: focusOn,
});
startVersions({ refresh: () => load({ again: true }), focus: focusOn });
startRenaming({ refresh: () => load({ again: true }), focus: focusOn });
// What a search found is not searched for again after each upload.
await start({ folder: () => listing.prefix, refresh: () => listing.text || listing.deleted || load({ again: true }) });
load();
