/** The list of uploads on the page, and the ways to add to it. `send.js` sends each file. */

import { may } from "./access.js";
import { Failure } from "./api.js";
import { lookUp } from "./name_conflicts.js";
import {
  $,
  ask,
  attempt,
  bdi,
  count,
  element,
  hideProblem,
  moment,
  number,
  say,
  sentence,
  showProblem,
  shown,
  sizeInWords,
  timeInWords,
  unauthorized,
} from "./page.js";
import { discard, interrupted, send } from "./send.js";
import { resultInWords, showTotal } from "./total.js";

// A browser opens six connections to one server. A file in parts takes three of them.
const CONNECTIONS = 6;
const IN_PARTS = { from: 5 * 1024 * 1024, connections: 3 };

/** The page: `folder()` is the prefix that it shows, and `refresh()` loads its files again. */
let page = null;

/** The name without the folder's prefix; the whole name of a file elsewhere, or of the folder itself. */
export function inFolder(name) {
  const folder = page.folder();
  return (name.startsWith(folder) && name.slice(folder.length)) || name;
}

/** The uploads on the page, in their order: waiting, sending, done or failed. */
const uploads = [];
/** Those that began since no upload was left: the total and its announcement are about them. */
const batch = new Set();

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
      if (late || batch.size === 1) say(`${late}Uploaded ${shown(this.name)}.`);
    } catch (failure) {
      if (this.aborter.signal.aborted) return this.leave();
      if (!(failure instanceof Failure)) console.error(failure);
      Object.assign(this, { state: "failed", failure });
      if (failure.status === 401) unauthorized(failure);
      if (batch.size === 1) say(`The upload of ${shown(this.name)} failed: ${shown(failure.message)}.`);
    }
    this.draw();
  }

  /** Stop, and remove the parts at S3; resolves when that is done. */
  cancel({ silent = false } = {}) {
    if (!silent) say(`Cancelled the upload of ${shown(this.name)}.`);
    if (this.state === "waiting") return this.leave();
    this.aborter.abort();
    return this.running;
  }

  again() {
    this.state = "waiting";
    if (!unfinished().some((one) => one !== this)) batch.clear();
    batch.add(this);
    this.draw();
    pump();
  }

  leave() {
    const focused = this.line.contains(document.activeElement);
    if (uploads.includes(this)) uploads.splice(uploads.indexOf(this), 1);
    batch.delete(this);
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

  /** Bytes a second, over the last five seconds, without the bytes that S3 already had. */
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

/** An upload that an earlier page began. The user must choose its file again before the page can read it. */
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
export const unfinished = () => uploads.filter((one) => one.state === "sending" || one.state === "waiting");

/** Cancel every upload that has not ended; resolves when nothing of them is left. */
export const cancelAll = () => Promise.all(unfinished().map((one) => one.cancel({ silent: true })));

/** Remove the lines of the uploads that have ended. */
export const removeEnded = () => uploads.filter((one) => one.ended).forEach((one) => one.leave());

function showUploads() {
  const list = $("uploads").querySelector("ul");
  for (const one of uploads) if (!one.line.isConnected) list.append(one.line);
  $("uploads").hidden = uploads.length === 0;
  $("clear").hidden = !uploads.some((one) => one.state === "done");
  showTotal(batch);
}

let ticking = null;
const cost = (one) => (one.file.size >= IN_PARTS.from ? IN_PARTS.connections : 1);

/** Start waiting uploads, as many as there are connections. When all have ended, refresh the listing. */
function pump() {
  let taken = sending().reduce((sum, one) => sum + cost(one), 0);
  for (const one of uploads.filter((waiting) => waiting.state === "waiting")) {
    if (taken && taken + cost(one) > CONNECTIONS) break;
    taken += cost(one);
    one.running = one.run();
    one.running.then(() => {
      pump();
      if (!unfinished().length) finish();
    });
  }
  if (ticking === null && unfinished().length) {
    ticking = setInterval(() => {
      sending().forEach((one) => one.tick());
      showTotal(batch);
      if (unfinished().length) return;
      clearInterval(ticking);
      ticking = null;
    }, 250);
  }
}

/** Announce the end of several uploads once, and list the folder again. */
function finish() {
  if (batch.size > 1) say(resultInWords(batch));
  if ([...batch].some((one) => one.state === "done")) page.refresh();
}

/** Upload files under names. Asks first when a name is taken. */
async function add(chosen) {
  const busy = new Set(unfinished().map((one) => one.name));
  const wanted = [...new Map(chosen.map((one) => [one.name, one])).values()].filter(({ name }) => !busy.has(name));
  if (!wanted.length) return;
  await attempt(async () => {
    say(`Checking whether ${count(wanted.length, "name is", "names are")} taken.`);
    const { taken, unknown } = await lookUp(page.folder(), wanted.map(({ name }) => name));
    const answer = await askWhetherToReplace(wanted.length, taken, unknown);
    if (answer === "") return say("Nothing is uploaded.");
    const replace = answer === "replace";
    const kept = wanted.filter(({ name }) => replace || !taken.has(name));
    // Replace the lines of ended and interrupted uploads of the same names.
    const names = new Set(kept.map(({ name }) => name));
    uploads.filter((one) => names.has(one.name)).forEach((one) => one.leave());
    if (!unfinished().length) batch.clear();
    for (const { file, name } of kept) {
      const one = new Upload(file, name, replace && (taken.has(name) || unknown));
      uploads.push(one);
      batch.add(one);
    }
    showUploads();
    say(`Uploading ${count(kept.length, "file")}.`);
    pump();
  });
}

/** The answer: "replace", "keep", or "" to upload nothing. */
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
  const body = [element("p", {}, "Already in this folder:"), element("ul", {}, ...names)];
  const choices = [["", "Cancel"], ["replace", "Replace", "danger"]];
  if (many > taken.size) choices.splice(1, 0, ["keep", taken.size === 1 ? "Skip it" : "Skip these"]);
  return ask(title, body, choices);
}

$("cancel-all").addEventListener("click", async () => {
  const stopped = unfinished();
  const waiting = stopped.filter((one) => one.state === "waiting");
  // First those that wait, or they would begin.
  for (const one of [...waiting, ...sending()]) one.cancel({ silent: true });
  $("listing-title").focus();
  await Promise.all(stopped.map((one) => one.running));
  say(`Cancelled ${count(stopped.filter((one) => one.state !== "done").length, "upload")}.`);
});
$("clear").addEventListener("click", () => {
  uploads.filter((one) => one.state === "done").forEach((one) => one.leave());
  $("listing-title").focus();
});

/** A picker of folders gives each file with its path. */
for (const [button, picker] of [["upload", "pick-files"], ["upload-folder", "pick-folder"]]) {
  $(button).addEventListener("click", () => $(picker).click());
  $(picker).addEventListener("change", () => {
    const chosen = [...$(picker).files];
    $(picker).value = ""; // so that the same file can be chosen again
    add(chosen.map((file) => ({ file, name: page.folder() + (file.webkitRelativePath || file.name) })));
  });
}
$("upload-folder").hidden = !("webkitdirectory" in $("pick-folder"));

// --- dropping

const mayUpload = () => !$("browser").hidden && may("write");
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");

function showDrop(on) {
  const where = page.folder() ? [" to ", bdi(page.folder())] : [];
  if (on) $("drop").querySelector("p").replaceChildren("Drop to upload", ...where);
  document.body.classList.toggle("dropping", on);
}

window.addEventListener("dragenter", (event) => {
  if (holdsFiles(event) && mayUpload()) showDrop(true);
});
window.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); // otherwise the browser opens the file
});
window.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) showDrop(false);
});
window.addEventListener("drop", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  showDrop(false);
  if (!holdsFiles(event) || !mayUpload()) return;
  const prefix = page.folder();
  // The dropped items can be read only during the event.
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

/** Add to `found` every file in a dropped folder and its subfolders. */
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

/** Show the uploads that an earlier page began, on `host`: see `page`. */
export async function start(host) {
  page = host;
  for (const found of await interrupted()) uploads.push(new Interrupted(found));
  showUploads();
}
