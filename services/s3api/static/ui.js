/** The page: its listing, its downloads and deletions, and the form for the token. */

import { folderMeant, home, isWithin, learn, may, offerHome, unlearn } from "./access.js";
import { Failure, at, call, callForBlob, token } from "./api.js";
import {
  $,
  ask,
  attempt,
  bdi,
  closeNotice,
  count,
  element,
  hideProblem,
  icon,
  iconButton,
  moment,
  momentInFull,
  notify,
  number,
  say,
  sentence,
  showProblem,
  shown,
  sizeInWords,
  timeInWords,
  timeOfDay,
  whenUnauthorized,
} from "./page.js";
import { isDefault, sorted, sortedFolders, startSorting } from "./sorting.js";
import { cancelAll, inFolder, removeEnded, start } from "./uploads.js";

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
  say("The token is forgotten.");
});

// --- the folder

/** The entries shown: those that are loaded, in the order of S3. */
const listing = { prefix: "", folders: [], files: [], next: null, picked: new Set(), loading: null };

const folderInHash = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
};
const hashOf = (prefix) => `#${prefix.split("/").map(encodeURIComponent).join("/")}`;

async function page(prefix, cursor, signal, limit = cursor ? NEXT_PAGES : FIRST_PAGE) {
  const query = { prefix, delimiter: "/", limit, details: true };
  if (cursor) query.cursor = cursor;
  return call("GET", "list_files", { query, signal });
}

/** Show the folder in the location. `again` reloads as many entries as were loaded, and keeps the selection. */
async function load({ focus = false, again = false } = {}) {
  listing.loading?.abort();
  const { signal } = (listing.loading = new AbortController());
  $("listing").setAttribute("aria-busy", "true");
  const wanted = again ? entries() : 0;
  let prefix = folderInHash();
  try {
    await learn(signal);
    if (!prefix && home()) history.replaceState(null, "", hashOf((prefix = home())));
    const found = { folders: [], files: [], next: null };
    let answer;
    do {
      answer = await page(prefix, found.next, signal, again ? NEXT_PAGES : undefined);
      found.folders.push(...answer.prefixes);
      found.files.push(...answer.content);
      found.next = answer.next ?? null;
    } while (found.next && found.folders.length + found.files.length < wanted);
    const names = new Set(found.files.map((file) => file.name));
    const picked = again ? [...listing.picked].filter((name) => names.has(name)) : [];
    if (!again) $("filter").value = "";
    Object.assign(listing, found, { prefix, picked: new Set(picked) });
    const bucket = /'([^']+)'$/.exec(answer.message)?.[1] ?? "Files";
    $("bucket").textContent = bucket;
    document.title = prefix ? `${shown(prefix)} – ${bucket}` : bucket;
    $("token").hidden = true;
    $("go").hidden = true;
    $("browser").hidden = $("listing").hidden = false;
    $("forget").hidden = token.get() === null;
    if (!again) hideProblem();
    render();
    if (focus) $("listing-title").focus();
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
  Object.assign(listing, { prefix, folders: [], files: [], next: null, picked: new Set() });
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

const rowOf = (name) => [...$("files").rows].find((row) => row.dataset.name === name);

function renderCrumbs() {
  const steps = listing.prefix.match(/[^/]*\/|[^/]+$/g) ?? [];
  const list = element("ol", {});
  let prefix = "";
  const link = (to, label) =>
    element("a", { href: hashOf(to), "aria-current": to === listing.prefix ? "page" : null }, label);
  for (const name of ["", ...steps]) {
    prefix += name;
    const label = name ? bdi(name.replace(/(.)\/$/, "$1")) : "All files";
    // The token may not list the folders above its own. "All files" leads to its own.
    const step = prefix && !isWithin(prefix) ? element("span", {}, label) : link(prefix, label);
    list.append(element("li", {}, step));
  }
  $("crumbs").replaceChildren(list);
  $("listing-title").replaceChildren(listing.prefix ? shown(listing.prefix) : "All files");
}

/** The element, which is hidden from a token that may not do this. */
function needs(verb, made) {
  made.dataset.needs = verb;
  return made;
}

const cell = (kind, ...children) => element("td", { role: "cell", class: kind }, ...children);

function folderRow(prefix) {
  const link = element("a", { href: hashOf(prefix) }, icon("folder"), bdi(inFolder(prefix)));
  const zip = needs("read", iconButton("download", ["Download as ZIP", shown(inFolder(prefix))], () => downloadFolder(prefix)));
  const row = element("tr", { role: "row" }, cell("pick"), cell("name", link), cell("size"), cell("date"), cell("actions", zip));
  row.dataset.name = prefix;
  return row;
}

function fileRow(file) {
  const { name, size } = file;
  const words = shown(inFolder(name));
  const changed = new Date(file.last_modified);
  const pick = element("input", { type: "checkbox", "aria-label": `Select ${words}`, onchange: () => togglePick(name, pick.checked) });
  pick.checked = listing.picked.has(name);
  const open = element(
    "button",
    { type: "button", class: "open", title: words, disabled: !may("read"), onclick: () => openFile(name, false) },
    icon("file"),
    bdi(inFolder(name)),
  );
  const row = element(
    "tr",
    { role: "row" },
    cell("pick", pick),
    cell("name", open),
    cell("size", element("span", { title: count(size, "byte") }, sizeInWords(size))),
    cell("date", element("time", { datetime: file.last_modified, title: momentInFull.format(changed) }, moment.format(changed))),
    cell(
      "actions",
      needs("read", iconButton("download", ["Download", words], () => openFile(name, true))),
      needs("read", iconButton("link", ["Copy link", `to ${words}`], () => showLink(name))),
      needs("delete", iconButton("delete", ["Delete", words], () => remove([name]))),
    ),
  );
  row.dataset.name = name;
  return row;
}

// --- searching and picking

function filter() {
  const wanted = $("filter").value.trim().toLowerCase();
  const rows = [...$("folders").rows, ...$("files").rows];
  for (const row of rows) row.hidden = !inFolder(row.dataset.name).toLowerCase().includes(wanted);
  const visible = rows.filter((row) => !row.hidden).length;
  $("listing").querySelector(".bar").hidden = rows.length === 0;
  const words = wanted ? `${number.format(visible)} of ${loadedInWords()}` : loadedInWords();
  $("count").textContent = words;
  $("listing").querySelector("table").hidden = visible === 0;
  $("empty").hidden = visible > 0;
  $("empty").querySelector("p").textContent = wanted
    ? `No match in the ${entriesInWords(" and ")} loaded.` + (listing.next ? " There is more to load." : "")
    : `No files here yet.${may("write") ? " Drop some, or choose them with Upload files." : ""}`;
  $("more-line").hidden = !listing.next;
  showPicked();
}

function togglePick(name, on) {
  if (on) listing.picked.add(name);
  else listing.picked.delete(name);
  showPicked();
}

const visibleFiles = () => [...$("files").rows].filter((row) => !row.hidden);

function showPicked() {
  const many = listing.picked.size;
  $("delete-selected").hidden = many === 0;
  $("delete-selected").textContent = `Delete ${count(many, "file")}`;
  const rows = visibleFiles();
  const on = rows.filter((row) => listing.picked.has(row.dataset.name)).length;
  $("pick-all").checked = rows.length > 0 && on === rows.length;
  $("pick-all").indeterminate = on > 0 && on < rows.length;
  $("pick-all").disabled = rows.length === 0;
}

$("pick-all").addEventListener("change", () => {
  const on = $("pick-all").checked;
  for (const row of visibleFiles()) {
    row.querySelector("input").checked = on;
    togglePick(row.dataset.name, on);
  }
});

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
$("more").addEventListener("click", () => loadAll(0));
$("all").addEventListener("click", () => (loadingAll ? loadingAll.abort() : loadAll(Infinity)));
startSorting(() => {
  arrange();
  if (listing.next && !isDefault() && entries() < LOADED_UNASKED) loadAll(LOADED_UNASKED);
});
$("delete-selected").addEventListener("click", () => remove([...listing.picked]));
$("go").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = hashOf(folderMeant($("go-folder").value));
});

// --- downloading

/** Open a file in a new tab, which shows it or saves it. */
function openFile(name, save) {
  return attempt(async () => {
    const { content } = await call("GET", at("download", name), { query: { attachment: save } });
    element("a", { href: content, target: "_blank", rel: "noopener noreferrer" }).click();
    say(save ? `Downloading ${shown(name)}.` : `Opening ${shown(name)} in a new tab.`);
  });
}

/** Save a folder as a ZIP. A link cannot send the token, so with a token the page reads the ZIP first. */
function downloadFolder(prefix) {
  return attempt(async () => {
    const path = `archive?prefix=${encodeURIComponent(prefix)}`;
    const name = `${inFolder(prefix).replaceAll("/", "")}.zip`;
    say(`Downloading ${shown(name)}.`);
    if (token.get() === null) return element("a", { href: path, download: name }).click();
    const url = URL.createObjectURL(await callForBlob(path));
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
}

/** Get a link that is valid for `seconds`, or for the default time. */
async function newLink(name, seconds = "") {
  const answer = await call("GET", at("download", name), { query: seconds ? { expires: seconds } : {} });
  const ends = new Date(answer.expires_at);
  const left = (ends - Date.now()) / 1000;
  const end = (left < 12 * 3600 ? timeOfDay : moment).format(ends);
  const time = element("time", { datetime: answer.expires_at, title: momentInFull.format(ends) }, end);
  $("link-text").replaceChildren("Anyone with this link can download the file until ", time, ` (${timeInWords(left)}).`);
  $("link-url").value = answer.content;
  $("link-copied").textContent = "";
}

async function showLink(name) {
  await attempt(async () => {
    await newLink(name);
    $("link-title").replaceChildren(...sentence`Link to ${inFolder(name)}`);
    $("link-life").value = "";
    $("link-copy").disabled = false;
    $("link-life").onchange = () => renewLink(name);
    $("link").showModal();
    await copyLink();
  });
}

/** Replace the link by one with the chosen life. If the service refuses it, the dialog has no link. */
async function renewLink(name) {
  $("link-life").disabled = $("link-copy").disabled = true;
  try {
    await newLink(name, $("link-life").value);
    await copyLink();
    $("link-copy").disabled = false;
  } catch (failure) {
    $("link-url").value = "";
    $("link-text").replaceChildren();
    $("link-copied").textContent = shown(failure.message);
  }
  $("link-life").disabled = false;
  $("link-life").focus();
}

async function copyLink() {
  $("link-url").select();
  try {
    await navigator.clipboard.writeText($("link-url").value);
    $("link-copied").textContent = "Copied to the clipboard.";
  } catch {
    // A page has no clipboard without HTTPS, or without permission.
    $("link-copied").textContent = "The page cannot use the clipboard; copy the selected text.";
  }
}

$("link-copy").addEventListener("click", copyLink);

// --- deleting and restoring

async function remove(names) {
  const [one] = names;
  const title = names.length === 1 ? sentence`Delete ${inFolder(one)}?` : [`Delete ${count(names.length, "file")}?`];
  const back = may("write") ? "Undo brings it back if the bucket keeps versions. " : "";
  const body = element("p", {}, `${back}If ${back ? "it" : "the bucket"} keeps ${back ? "none" : "no versions"}, it is gone for good.`);
  if ((await ask(title, [body], [["", "Cancel"], ["delete", "Delete", "danger"]])) !== "delete") return;
  await attempt(async () => {
    const deleted = [];
    const failed = [];
    for (let start = 0; start < names.length; start += 1000) {
      const { content } = await call("POST", "delete", { json: { files: names.slice(start, start + 1000) } });
      for (const result of content) (result.deleted ? deleted : failed).push(result);
    }
    for (const { name } of deleted) listing.picked.delete(name);
    await load({ again: true });
    if (failed.length) {
      const [{ name, code }] = failed;
      const others = failed.length > 1 ? `, and ${count(failed.length - 1, "other")}` : "";
      const reason = code === "invalid_file_name" ? "another S3 client must delete this name" : code;
      showProblem(new Failure(`Could not delete '${name}' (${reason})${others}`), "Dismiss", hideProblem);
    }
    if (!deleted.length) return;
    const done = deleted.map((result) => result.name);
    notify(
      done.length === 1 ? sentence`Deleted ${inFolder(done[0])}.` : [`Deleted ${count(done.length, "file")}.`],
      may("write") ? () => restore(done) : null,
    );
    (may("write") ? $("undo") : $("notice-close")).focus();
  });
}

async function restore(names) {
  $("undo").disabled = true;
  let restored = 0;
  let refusal = null;
  for (const name of names) {
    try {
      await call("POST", at("restore", name));
      restored++;
    } catch (failure) {
      refusal ??= failure;
      if (failure.passing || failure.status === 401) break;
    }
  }
  $("undo").disabled = false;
  await load({ again: true });
  if (refusal) {
    closeNotice();
    // A role that may not read the versioning of the bucket answers "not found" instead.
    if (refusal.code === "file_not_found") refusal.message += ": the bucket keeps no version of it, it cannot be restored";
    if (restored) refusal.message += `. ${count(restored, "file was", "files were")} restored`;
    if (refusal.status === 401) askForToken(refusal);
    else showProblem(refusal, "Dismiss", hideProblem);
    return;
  }
  notify(names.length === 1 ? sentence`Restored ${inFolder(names[0])}.` : [`Restored ${count(restored, "file")}.`]);
  (rowOf(names[0])?.querySelector(".open") ?? $("listing-title")).focus();
}

$("notice-close").addEventListener("click", closeNotice);

// --- beginning

window.addEventListener("hashchange", () => load({ focus: document.activeElement?.closest("#listing, #crumbs, #go") !== null }));

whenUnauthorized(askForToken);
await start({ folder: () => listing.prefix, refresh: () => load({ again: true }) });
load();
