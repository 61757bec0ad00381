/** The page of an upload link. Its URL is the URL of the link; it sends the files that the user chooses there. */

import { Failure, failureOf } from "./api.js";
import { $, count, element, moment, momentInFull, say, sentence, shown, sizeInWords } from "./page.js";

let terms = null; // what the link allows

// --- the link

async function readTerms() {
  $("problem").hidden = true;
  try {
    let answer, text;
    try {
      answer = await fetch(location.pathname, { headers: { Accept: "application/json" }, cache: "no-store" });
      text = await answer.text();
    } catch {
      throw new Failure("The service cannot be reached", { passing: true });
    }
    if (!answer.ok) throw failureOf(answer.status, text);
    terms = JSON.parse(text).content;
    showTerms();
  } catch (failure) {
    $("problem-text").textContent = shown(failure.message);
    $("problem-action").hidden = !failure.passing;
    $("problem").hidden = false;
  }
}

function showTerms() {
  const ends = new Date(terms.expires_at);
  const isFolder = terms.prefix !== undefined;
  $("pick").multiple = isFolder;
  $("choose").textContent = isFolder ? "Choose files" : "Choose a file";
  const title = isFolder ? ["Drop files here, or choose them"] : sentence`Drop the file ${lastPart(terms.name)} here, or choose it`;
  $("send-title").replaceChildren(...title);
  const each = isFolder ? "Each file" : "The file";
  $("send-terms").replaceChildren(
    `${each} can have up to ${sizeInWords(terms.max_bytes)}. The link is valid until `,
    element("time", { datetime: terms.expires_at, title: momentInFull.format(ends) }, moment.format(ends)),
    terms.overwrite ? ". A file of the same name is replaced." : ". No existing file is replaced.",
  );
  $("send").hidden = false;
}

const lastPart = (name) => name.slice(name.lastIndexOf("/") + 1);

$("problem-action").addEventListener("click", readTerms);

// --- sending one file

/** The URL for a file. The page of a link to one name has a slash that the URL of its link has not. */
const urlFor = (name) =>
  terms.prefix === undefined ? location.pathname.replace(/\/$/, "") : location.pathname + encodeURIComponent(name);

/** Send the file. Rejects with a `Failure`, or with the reason of the signal. */
function put(file, name, signal, progress) {
  return new Promise((resolve, reject) => {
    // fetch does not report the progress of an upload.
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    signal.addEventListener("abort", abort, { once: true });
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => (request.status === 200 ? resolve() : reject(failureOf(request.status, request.responseText)));
    request.onerror = () => reject(new Failure("The connection broke before the file was confirmed"));
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal.removeEventListener("abort", abort);
    request.open("PUT", urlFor(name));
    request.send(file);
  });
}

// --- the list

const waiting = [];
let sending = false;

/** Add a file to the list, and send it after those before it. */
function add(file, name = file.name) {
  const stop = new AbortController();
  const state = element("p", { class: "quiet" }, "waiting");
  const bar = element("progress", { "aria-label": `Upload of ${shown(name)}`, max: Math.max(1, file.size), value: 0 });
  const button = element("button", { type: "button", class: "plain" });
  const line = element("li", {}, element("p", { class: "title" }, ...sentence`${name}`), button, bar, state);
  const one = { file, name, stop, line, bar, state, button };
  offer(one, "Cancel", () => stop.abort());
  $("uploads").querySelector("ul").append(line);
  $("uploads").hidden = false;
  waiting.push(one);
  run();
}

/** Give the button of a line its words and its work. */
function offer(one, words, work) {
  one.button.textContent = words;
  one.button.setAttribute("aria-label", `${words}: ${shown(one.name)}`);
  one.button.onclick = work;
}

async function run() {
  if (sending) return;
  sending = true;
  for (let one; (one = waiting.shift()); ) await send(one);
  sending = false;
}

async function send(one) {
  const { file, name, stop, line, bar, state } = one;
  try {
    stop.signal.throwIfAborted();
    if (file.size > terms.max_bytes) {
      throw new Failure(`The file has ${sizeInWords(file.size)}; this link takes up to ${sizeInWords(terms.max_bytes)}`);
    }
    line.dataset.state = "sending";
    await put(file, name, stop.signal, (sent) => {
      bar.value = sent;
      state.textContent = `${sizeInWords(Math.min(sent, file.size))} of ${sizeInWords(file.size)}`;
    });
    line.dataset.state = "done";
    bar.hidden = one.button.hidden = true;
    state.textContent = `sent, ${sizeInWords(file.size)}`;
    say(`${shown(name)} was sent.`);
  } catch (failure) {
    bar.hidden = true;
    line.dataset.state = "failed";
    state.textContent = stop.signal.aborted ? "cancelled" : shown(failure.message);
    say(`${shown(name)} was not sent: ${state.textContent}.`);
    const again = failure.code === "file_exists" && terms.prefix !== undefined ? otherName(name) : name;
    offer(one, again === name ? "Try again" : `Send as ${shown(again)}`, () => {
      line.remove();
      add(file, again);
      $("uploads-title").focus();
    });
  }
}

/** The name with the next number before its extension: "a.txt", "a (2).txt", "a (3).txt". */
function otherName(name) {
  const [, stem, number, extension] = /^(.+?)(?: \((\d+)\))?(\.[^.]*)?$/s.exec(name) ?? [null, name, undefined, ""];
  return `${stem} (${number === undefined ? 2 : Number(number) + 1})${extension ?? ""}`;
}

function addAll(files) {
  const taken = terms.prefix === undefined ? files.slice(0, 1) : files;
  if (!taken.length) return;
  say(`${count(taken.length, "file")} added.`);
  for (const file of taken) add(file);
}

$("choose").addEventListener("click", () => $("pick").click());
$("pick").addEventListener("change", () => {
  addAll([...$("pick").files]);
  $("pick").value = "";
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  event.dataTransfer.dropEffect = terms ? "copy" : "none";
  $("send").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("send").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("send").classList.remove("over");
  if (!terms) return;
  // A folder has no bytes that can be sent.
  const files = [...event.dataTransfer.items].filter((item) => !item.webkitGetAsEntry?.()?.isDirectory).map((item) => item.getAsFile());
  addAll(files.filter(Boolean));
});
addEventListener("beforeunload", (event) => {
  if (sending) event.preventDefault();
});

readTerms();
