/** The page. It builds itself from text alone: no name of a file is ever read as HTML. */

import { Failure, at, call, token } from "./api.js";
import { discard, interrupted, send } from "./upload.js";

const PAGE_SIZE = 200;
const FILES_AT_ONCE = 2;
const CHECKS_AT_ONCE = 6;

const $ = (id) => document.getElementById(id);

// --- words

const UNITS = ["B", "kB", "MB", "GB", "TB"];
const number = new Intl.NumberFormat();
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const momentInFull = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const timeOfDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

function sizeInWords(bytes) {
  let unit = 0;
  for (; bytes >= 999.5 && unit < UNITS.length - 1; unit++) bytes /= 1000;
  return `${bytes < 9.95 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
}

function timeInWords(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const count = (many, one, more = `${one}s`) => `${number.format(many)} ${many === 1 ? one : more}`;

/** A name as it is shown: what is invisible, or turns the text around it, is spelled out. */
function shown(name) {
  return name.replace(
    /[\p{Cc}\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff]/gu,
    (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

/** The sentence, with the names in it set apart from the text around them. */
function sentence(strings, ...names) {
  const parts = strings.flatMap((text, index) => (index < names.length ? [text, bdi(names[index])] : [text]));
  return parts.filter((part) => part !== "");
}

// --- elements

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value === true) made.setAttribute(attribute, "");
    else if (value !== false && value !== null) made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

const bdi = (name) => element("bdi", {}, shown(name));

function icon(name) {
  const SVG = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  made.append(use);
  return made;
}

function iconButton(name, label, onclick) {
  const words = label[0];
  return element("button", { type: "button", class: "icon", "aria-label": label.join(" "), title: words, onclick }, icon(name));
}

// --- what is told

function say(text) {
  $("said").textContent = "";
  // An empty region first, or the same sentence twice is told once.
  setTimeout(() => ($("said").textContent = text), 50);
}

/** A sentence at the foot of the page, until it is dismissed; `undo` takes back what it tells. */
function notify(parts, undo = null) {
  const text = element("p", {}, ...parts);
  $("notice").querySelector("p").replaceWith(text);
  $("undo").hidden = !undo;
  $("undo").onclick = undo;
  $("notice").hidden = false;
  say(text.textContent + (undo ? " The button Undo brings it back." : ""));
}

function closeNotice() {
  const focused = $("notice").contains(document.activeElement);
  $("notice").hidden = true;
  if (focused) $("listing-title").focus();
}

function showProblem(failure, label, action) {
  $("problem-text").replaceChildren(shown(failure.message));
  $("problem-request").hidden = !failure.requestId;
  $("problem-request").querySelector("code").textContent = failure.requestId ?? "";
  $("problem-action").textContent = label;
  $("problem-action").onclick = action;
  $("problem").hidden = false;
}

function hideProblem() {
  const focused = $("problem").contains(document.activeElement);
  $("problem").hidden = true;
  if (focused) $("listing-title").focus();
}

/** Run what a button starts; what fails is told. */
async function attempt(work) {
  try {
    await work();
  } catch (failure) {
    if (failure.status === 401) askForToken(failure);
    else if (failure.name !== "AbortError") showProblem(failure, "Dismiss", hideProblem);
    if (!(failure instanceof Failure) && failure.name !== "AbortError") console.error(failure);
  }
}

/** Ask, and resolve with the value of the button pressed, "" for Escape. The first button is the safe one. */
function ask(title, body, choices) {
  const dialog = $("ask");
  $("ask-title").replaceChildren(...title);
  $("ask-body").replaceChildren(...body);
  $("ask-choices").replaceChildren(
    ...choices.map(([value, label, kind]) => element("button", { value, class: kind ?? "" }, label)),
  );
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

// --- the token

/** Nothing of the files stays behind the form. */
function askForToken(failure) {
  clearListing();
  $("bucket").textContent = document.title = "Files";
  $("token-why").textContent = token.get() === null ? "This service wants to know who asks." : failure.message;
  $("token").hidden = false;
  $("browser").hidden = true;
  $("forget").hidden = true;
  $("token-value").focus();
}

$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token-value").value.trim());
  $("token-value").value = "";
  load({ focus: true });
});

$("forget").addEventListener("click", async () => {
  await Promise.all(unfinished().map((one) => one.cancel())); // which needs the token
  token.forget();
  uploads.filter((one) => one.ended).forEach((one) => one.leave());
  closeNotice();
  load({ focus: true });
  say("The token is forgotten.");
});

// --- the folder

/** What is shown: names in the order of S3, as far as they are loaded. */
const listing = { prefix: "", folders: [], files: [], next: null, picked: new Set(), loading: null };

const folderInHash = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
};
const hashOf = (prefix) => `#${prefix.split("/").map(encodeURIComponent).join("/")}`;
/** The name as it is in the folder shown; whole where it is elsewhere, or is the folder's own. */
const inFolder = (name) => (name.startsWith(listing.prefix) && name.slice(listing.prefix.length)) || name;

async function page(prefix, cursor, signal) {
  const query = { prefix, delimiter: "/", limit: PAGE_SIZE, details: true };
  if (cursor) query.cursor = cursor;
  return call("GET", "list_files", { query, signal });
}

/** Show the folder that the location names, from its beginning; `again` keeps what was loaded and picked. */
async function load({ focus = false, again = false } = {}) {
  const prefix = folderInHash();
  listing.loading?.abort();
  const { signal } = (listing.loading = new AbortController());
  $("listing").setAttribute("aria-busy", "true");
  const wanted = again ? listing.folders.length + listing.files.length : 0;
  try {
    const found = { folders: [], files: [], next: null };
    let answer;
    do {
      answer = await page(prefix, found.next, signal);
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
  } catch (failure) {
    if (signal.aborted) return;
    if (failure.status === 401) return askForToken(failure);
    if (!(failure instanceof Failure)) console.error(failure);
    // Who may not list may still upload.
    clearListing(prefix);
    $("token").hidden = true;
    $("browser").hidden = false;
    $("listing").hidden = true;
    $("forget").hidden = token.get() === null;
    $("go").hidden = failure.status !== 403;
    showProblem(failure, "Try again", () => load({ focus: true }));
  } finally {
    if (!signal.aborted) $("listing").removeAttribute("aria-busy");
  }
}

function clearListing(prefix = "") {
  Object.assign(listing, { prefix, folders: [], files: [], next: null, picked: new Set() });
  render();
}

async function loadMore() {
  const { prefix, files, folders } = listing;
  const { signal } = listing.loading;
  $("more").disabled = true;
  await attempt(async () => {
    const answer = await page(prefix, listing.next, signal);
    folders.push(...answer.prefixes);
    files.push(...answer.content);
    listing.next = answer.next ?? null;
    $("folders").append(...answer.prefixes.map(folderRow));
    $("files").append(...answer.content.map(fileRow));
    filter();
    say(loadedInWords());
  });
  $("more").disabled = false;
  if (listing.next) $("more").focus();
  else $("listing-title").focus();
}

const loadedInWords = () =>
  [
    listing.folders.length ? count(listing.folders.length, "folder") : "",
    listing.files.length || !listing.folders.length ? count(listing.files.length, "file") : "",
  ]
    .filter(Boolean)
    .join(", ") + (listing.next ? " loaded, there are more" : "");

function render() {
  const focused = document.activeElement?.closest?.("#files tr") && {
    name: document.activeElement.closest("tr").dataset.name,
    what: document.activeElement.className,
    label: document.activeElement.title,
  };
  renderCrumbs();
  $("folders").replaceChildren(...listing.folders.map(folderRow));
  $("files").replaceChildren(...listing.files.map(fileRow));
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
  for (const step of ["", ...steps]) {
    prefix += step;
    const here = prefix === listing.prefix;
    const label = step ? bdi(step.replace(/(.)\/$/, "$1")) : "All files";
    const link = element("a", { href: hashOf(prefix), "aria-current": here ? "page" : null }, label);
    list.append(element("li", {}, link));
  }
  $("crumbs").replaceChildren(list);
  $("listing-title").replaceChildren(listing.prefix ? shown(listing.prefix) : "All files");
}

const cell = (kind, ...children) => element("td", { role: "cell", class: kind }, ...children);

function folderRow(prefix) {
  const link = element("a", { href: hashOf(prefix) }, icon("folder"), bdi(inFolder(prefix)));
  const row = element("tr", { role: "row" }, cell("pick"), cell("name", link), cell("size"), cell("date"), cell("actions"));
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
    { type: "button", class: "open", title: words, onclick: () => openFile(name, false) },
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
      iconButton("download", ["Download", words], () => openFile(name, true)),
      iconButton("link", ["Copy link", `to ${words}`], () => showLink(name)),
      iconButton("delete", ["Delete", words], () => remove([name])),
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
    ? "No loaded name holds these letters." + (listing.next ? " There is more to load." : "")
    : "No files here yet. Drop some, or choose them with Upload files.";
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
$("filter").addEventListener("input", () => {
  filter();
  say($("count").textContent);
});
$("more").addEventListener("click", loadMore);
$("delete-selected").addEventListener("click", () => remove([...listing.picked]));
$("go").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = hashOf($("go-folder").value);
});

// --- downloading

/** Open a file in a tab of its own, where it is shown if it safely can be, or saved. */
function openFile(name, save) {
  return attempt(async () => {
    const { content } = await call("GET", at("download", name), { query: { attachment: save } });
    element("a", { href: content, target: "_blank", rel: "noopener noreferrer" }).click();
    say(save ? `Downloading ${shown(name)}.` : `Opening ${shown(name)} in a new tab.`);
  });
}

async function showLink(name) {
  await attempt(async () => {
    const answer = await call("GET", at("download", name));
    const ends = new Date(answer.expires_at);
    const left = timeInWords((ends - Date.now()) / 1000);
    const time = element("time", { datetime: answer.expires_at, title: momentInFull.format(ends) }, timeOfDay.format(ends));
    $("link-title").replaceChildren(...sentence`Link to ${inFolder(name)}`);
    $("link-text").replaceChildren("Whoever has this link can download the file until ", time, ` (${left}).`);
    $("link-url").value = answer.content;
    $("link-copied").textContent = "";
    $("link").showModal();
    await copyLink();
  });
}

async function copyLink() {
  $("link-url").select();
  try {
    await navigator.clipboard.writeText($("link-url").value);
    $("link-copied").textContent = "Copied to the clipboard.";
  } catch {
    // Without HTTPS, or without leave, there is no clipboard for a page.
    $("link-copied").textContent = "The browser keeps its clipboard to itself; copy the selected text.";
  }
}

$("link-copy").addEventListener("click", copyLink);

// --- deleting, and back

async function remove(names) {
  const [one] = names;
  const title = names.length === 1 ? sentence`Delete ${inFolder(one)}?` : [`Delete ${count(names.length, "file")}?`];
  const body = element("p", {}, "Undo brings it back if the bucket keeps versions. If it keeps none, it is gone for good.");
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
      () => restore(done),
    );
    $("undo").focus();
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
    // A role that may not ask whether there are versions finds only that there is none of this file.
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

// --- uploading

/** The uploads on the page, in their order: waiting, sending, done or failed. */
const uploads = [];

class Upload {
  constructor(file, name, replace) {
    Object.assign(this, { file, name, replace, sent: 0, resumed: 0, via: "", state: "waiting", samples: [] });
    this.bar = element("progress", { max: Math.max(1, file.size), value: 0, "aria-label": `Upload of ${shown(name)}` });
    this.detail = element("span", { class: "quiet" });
    this.buttons = element("span", { class: "buttons" });
    this.line = element("li", {}, element("span", { class: "title" }, bdi(name)), this.buttons, this.bar, this.detail);
    this.draw();
  }

  get ended() {
    return this.state === "done" || this.state === "failed";
  }

  async run() {
    this.aborter = new AbortController();
    Object.assign(this, { state: "sending", samples: [], sent: 0 });
    this.draw();
    try {
      await send(this.file, this.name, {
        replace: this.replace,
        signal: this.aborter.signal,
        report: (news) => Object.assign(this, news),
      });
      Object.assign(this, { state: "done", sent: this.file.size });
      const late = this.aborter.signal.aborted ? "It was too late to cancel: " : "";
      say(`${late}Uploaded ${shown(this.name)}.`);
    } catch (failure) {
      if (this.aborter.signal.aborted) return this.leave();
      if (!(failure instanceof Failure)) console.error(failure);
      Object.assign(this, { state: "failed", failure });
      if (failure.status === 401) askForToken(failure);
      say(`The upload of ${shown(this.name)} failed: ${shown(failure.message)}.`);
    }
    this.draw();
  }

  /** Stop, and take away what S3 has of it; resolves when that is done. */
  cancel() {
    say(`Cancelled the upload of ${shown(this.name)}.`);
    if (this.state === "waiting") return this.leave();
    this.aborter.abort();
    return this.running;
  }

  again() {
    this.state = "waiting";
    this.draw();
    pump();
  }

  leave() {
    const focused = this.line.contains(document.activeElement);
    if (uploads.includes(this)) uploads.splice(uploads.indexOf(this), 1);
    this.line.remove();
    showUploads();
    if (focused) $("listing-title").focus();
  }

  tick() {
    const now = performance.now() / 1000;
    this.samples.push([now, this.sent]);
    while (now - this.samples[0][0] > 5) this.samples.shift();
    this.draw();
  }

  /** Bytes a second over the last five; what S3 had before does not count. */
  get rate() {
    const samples = this.samples.filter(([, sent]) => sent >= this.resumed);
    const [first, last] = [samples[0], samples.at(-1)];
    return first && last[0] - first[0] >= 0.4 ? (last[1] - first[1]) / (last[0] - first[0]) : 0;
  }

  draw() {
    const size = sizeInWords(this.file.size);
    const words = {
      waiting: () => `${size} · waiting`,
      sending: () => {
        const left = this.rate > 0 ? (this.file.size - this.sent) / this.rate : 0;
        return [
          `${sizeInWords(this.sent)} of ${size}`,
          this.resumed ? `resumed at ${Math.floor((100 * this.resumed) / this.file.size)} %` : "",
          this.rate > 0 ? `${sizeInWords(this.rate)}/s` : "",
          this.rate > 0 ? `${timeInWords(left)} left` : "",
          this.via === "the service" ? "through the service" : "",
        ]
          .filter(Boolean)
          .join(" · ");
      },
      done: () => `${size} · uploaded` + (this.via === "the service" ? " through the service" : ""),
      failed: () =>
        shown(this.failure.message) + (this.failure.requestId ? ` · request id ${this.failure.requestId}` : ""),
    }[this.state]();
    this.bar.value = this.file.size ? this.sent : Number(this.state === "done");
    this.bar.hidden = this.ended;
    if (this.detail.textContent !== words) this.detail.textContent = words;
    this.line.dataset.state = this.state;
    if (this.drawn === this.state) return;
    this.drawn = this.state;
    const button = (label, onclick) =>
      element("button", { type: "button", class: "plain", "aria-label": `${label}: ${shown(this.name)}`, onclick }, label);
    const focused = this.buttons.contains(document.activeElement);
    this.buttons.replaceChildren(
      ...{
        waiting: () => [button("Cancel", () => this.cancel())],
        sending: () => [button("Cancel", () => this.cancel())],
        done: () => [],
        failed: () => [button("Try again", () => this.again()), button("Dismiss", () => this.leave())],
      }[this.state](),
    );
    if (focused) (this.buttons.firstChild ?? $("listing-title")).focus();
    showUploads();
  }
}

/** An upload that an earlier page began. The browser gives the file to nobody but who chooses it again. */
class Interrupted {
  constructor(found) {
    Object.assign(this, found, { ended: false, state: "interrupted" });
    const label = (text) => ({ type: "button", class: "plain", "aria-label": `${text}: ${shown(this.name)}` });
    this.line = element(
      "li",
      {},
      element("span", { class: "title" }, bdi(this.name)),
      element(
        "span",
        { class: "buttons" },
        element("button", { ...label("Choose file"), onclick: () => this.choose() }, "Choose file"),
        element("button", { ...label("Discard"), onclick: () => this.cancel() }, "Discard"),
      ),
      element("span", { class: "quiet" }, `${sizeInWords(this.size)} · interrupted; choose the same file again to go on`),
    );
    this.line.dataset.state = "interrupted";
  }

  choose() {
    $("pick-again").onchange = () => {
      const [file] = $("pick-again").files;
      $("pick-again").value = "";
      if (!file) return;
      if (file.size === this.size && file.lastModified === this.lastModified) add([{ file, name: this.name }]);
      else {
        const other = new Failure(`'${file.name}' is not the file that was being uploaded: its size or date differs`);
        showProblem(other, "Dismiss", hideProblem);
      }
    };
    $("pick-again").click();
  }

  async cancel() {
    this.leave();
    if (!(await discard(this.key))) say(`It was too late to discard ${shown(this.name)}: it is uploaded.`);
  }
}
Interrupted.prototype.leave = Upload.prototype.leave;

const sending = () => uploads.filter((one) => one.state === "sending");
const unfinished = () => uploads.filter((one) => one.state === "sending" || one.state === "waiting");

function showUploads() {
  const list = $("uploads").querySelector("ul");
  for (const one of uploads) if (!one.line.isConnected) list.append(one.line);
  $("uploads").hidden = uploads.length === 0;
  $("clear").hidden = !uploads.some((one) => one.state === "done");
}

let ticking = null;

/** Start what waits, a few at a time; when all have ended, look again at what is there. */
function pump() {
  for (const one of uploads.filter((waiting) => waiting.state === "waiting")) {
    if (sending().length >= FILES_AT_ONCE) break;
    one.running = one.run();
    one.running.then(() => {
      pump();
      if (!unfinished().length && one.state === "done") load({ again: true });
    });
  }
  if (ticking === null && unfinished().length) {
    ticking = setInterval(() => {
      sending().forEach((one) => one.tick());
      if (unfinished().length) return;
      clearInterval(ticking);
      ticking = null;
    }, 250);
  }
}

/** Upload files under names, after asking where one is taken. */
async function add(chosen) {
  const busy = new Set(unfinished().map((one) => one.name));
  const wanted = [...new Map(chosen.map((one) => [one.name, one])).values()].filter(({ name }) => !busy.has(name));
  if (!wanted.length) return;
  await attempt(async () => {
    say(`Looking whether ${count(wanted.length, "name is", "names are")} taken.`);
    const { taken, unknown } = await lookUp(wanted.map(({ name }) => name));
    const answer = await askWhetherToReplace(wanted.length, taken, unknown);
    if (answer === "") return say("Nothing is uploaded.");
    const replace = answer === "replace";
    const kept = wanted.filter(({ name }) => replace || !taken.has(name));
    for (const { file, name } of kept) {
      // It takes over the line of an upload of this name that has ended, or was interrupted.
      uploads.filter((one) => one.name === name).forEach((one) => one.leave());
      uploads.push(new Upload(file, name, replace && (taken.has(name) || unknown)));
    }
    showUploads();
    say(`Uploading ${count(kept.length, "file")}.`);
    pump();
  });
}

/** Which of the names are taken, as far as the token may know. */
async function lookUp(names) {
  const taken = new Map();
  const left = [...names];
  let unknown = false;
  const look = async () => {
    while (left.length && !unknown) {
      const name = left.shift();
      try {
        // A name sorts before whatever else begins with it.
        const { content } = await call("GET", "list_files", { query: { prefix: name, limit: 1, details: true } });
        if (content[0]?.name === name) taken.set(name, content[0]);
      } catch (failure) {
        if (failure.status === 403) unknown = true;
        else if (failure.status !== 400) throw failure; // a name that is refused is told where it is uploaded
      }
    }
  };
  await Promise.all(Array.from({ length: CHECKS_AT_ONCE }, look));
  return { taken, unknown };
}

/** "replace", "keep" or "", which is to upload nothing. */
async function askWhetherToReplace(many, taken, unknown) {
  if (unknown) {
    const body = element("p", {}, "This token may not list files here. A file that has the same name is replaced.");
    return ask(["Upload without knowing what is there?"], [body], [["", "Cancel"], ["replace", "Upload"]]);
  }
  if (!taken.size) return "keep";
  const [first] = taken.values();
  const title = taken.size === 1 ? sentence`Replace ${inFolder(first.name)}?` : [`Replace ${count(taken.size, "file")}?`];
  const names = [...taken.values()].slice(0, 5).map((file) =>
    element("li", {}, bdi(inFolder(file.name)), ` · ${sizeInWords(file.size)}, ${moment.format(new Date(file.last_modified))}`),
  );
  if (taken.size > 5) names.push(element("li", {}, `and ${number.format(taken.size - 5)} more`));
  const body = [element("p", {}, "There already:"), element("ul", {}, ...names)];
  const choices = [["", "Cancel"], ["replace", "Replace", "danger"]];
  if (many > taken.size) choices.splice(1, 0, ["keep", taken.size === 1 ? "Skip it" : "Skip these"]);
  return ask(title, body, choices);
}

$("clear").addEventListener("click", () => {
  uploads.filter((one) => one.state === "done").forEach((one) => one.leave());
  $("listing-title").focus();
});

/** Files from a picker, whose folders come as paths. */
for (const [button, picker] of [["upload", "pick-files"], ["upload-folder", "pick-folder"]]) {
  $(button).addEventListener("click", () => $(picker).click());
  $(picker).addEventListener("change", () => {
    const chosen = [...$(picker).files];
    $(picker).value = ""; // so that the same file can be chosen again
    add(chosen.map((file) => ({ file, name: listing.prefix + (file.webkitRelativePath || file.name) })));
  });
}
$("upload-folder").hidden = !("webkitdirectory" in $("pick-folder"));

// --- dropping

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");

function showDrop(on) {
  const where = listing.prefix ? [" to ", bdi(listing.prefix)] : [];
  if (on) $("drop").querySelector("p").replaceChildren("Drop to upload", ...where);
  document.body.classList.toggle("dropping", on);
}

window.addEventListener("dragenter", (event) => {
  if (holdsFiles(event) && !$("browser").hidden) showDrop(true);
});
window.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); // or the browser opens the file instead
});
window.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) showDrop(false);
});
window.addEventListener("drop", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  showDrop(false);
  if (!holdsFiles(event) || $("browser").hidden) return;
  const { prefix } = listing;
  // What was dropped can be asked for now, and no later.
  const dropped = [...event.dataTransfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  attempt(async () => {
    const found = [];
    for (const [entry, file] of dropped) {
      if (entry) await filesUnder(entry, prefix, found);
      else if (file) found.push({ file, name: prefix + file.name });
    }
    await add(found);
  });
});

/** Every file of a folder that was dropped, and of those in it. */
async function filesUnder(entry, prefix, found) {
  const asked = (method, on = entry) => new Promise((resolve, reject) => on[method](resolve, reject));
  const name = prefix + entry.name;
  if (entry.isFile) {
    found.push({ file: await asked("file"), name });
    return;
  }
  const reader = entry.createReader();
  for (let some; (some = await asked("readEntries", reader)).length; ) {
    for (const inner of some) await filesUnder(inner, `${name}/`, found);
  }
}

// --- beginning

window.addEventListener("beforeunload", (event) => {
  if (unfinished().length) event.preventDefault();
});
window.addEventListener("hashchange", () => load({ focus: document.activeElement?.closest("#listing, #crumbs, #go") !== null }));

for (const found of await interrupted()) uploads.push(new Interrupted(found));
showUploads();
load();
