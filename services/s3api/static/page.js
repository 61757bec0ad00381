/** What the modules of the page share: words, elements, messages and questions.
 *
 * Elements are made from text alone: no name of a file is ever parsed as HTML.
 */

import { Failure } from "./api.js";

export const $ = (id) => document.getElementById(id);

// --- words

const UNITS = ["B", "kB", "MB", "GB", "TB"];
export const number = new Intl.NumberFormat();
export const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
export const momentInFull = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
export const timeOfDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function sizeInWords(bytes) {
  let unit = 0;
  for (; bytes >= 999.5 && unit < UNITS.length - 1; unit++) bytes /= 1000;
  return `${bytes < 9.95 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
}

export function timeInWords(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  const hours = Math.round(minutes / 60);
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const count = (many, one, more = `${one}s`) => `${number.format(many)} ${many === 1 ? one : more}`;

/** A name as it is shown: invisible characters, and those that change the direction of text, are spelled out. */
export function shown(name) {
  return name.replace(
    /[\p{Cc}\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff]/gu,
    (mark) => `⟨U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
}

/** The parts of a sentence, with each name isolated from the direction of the text around it. */
export function sentence(strings, ...names) {
  const parts = strings.flatMap((text, index) => (index < names.length ? [text, bdi(names[index])] : [text]));
  return parts.filter((part) => part !== "");
}

// --- elements

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value === true) made.setAttribute(attribute, "");
    else if (value !== false && value !== null) made.setAttribute(attribute, value);
  }
  made.append(...children);
  return made;
}

export const bdi = (name) => element("bdi", {}, shown(name));

export function icon(name) {
  const SVG = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  made.append(use);
  return made;
}

export function iconButton(name, label, onclick) {
  const words = label[0];
  return element("button", { type: "button", class: "icon", "aria-label": label.join(" "), title: words, onclick }, icon(name));
}

/** The element, which is hidden from a token that lacks one of these verbs. */
export function needs(verbs, made) {
  made.dataset.needs = verbs;
  return made;
}

export const cell = (kind, ...children) => element("td", { role: "cell", class: kind }, ...children);

/** Go to the title of what the page shows, if the focus would be lost. */
export function focusTitle() {
  ($("deleted").hidden ? $("listing-title") : $("deleted-title")).focus();
}

// --- messages

export function say(text) {
  $("said").textContent = "";
  // Empty the region first: a screen reader does not read the same sentence twice.
  setTimeout(() => ($("said").textContent = text), 50);
}

/** Show a sentence at the foot of the page until the user dismisses it; `undo` reverses what it reports. */
export function notify(parts, undo = null) {
  const text = element("p", {}, ...parts);
  $("notice").querySelector("p").replaceWith(text);
  $("undo").hidden = !undo;
  $("undo").onclick = undo;
  $("notice").hidden = false;
  say(text.textContent + (undo ? " The button Undo brings it back." : ""));
}

export function closeNotice() {
  const focused = $("notice").contains(document.activeElement);
  $("notice").hidden = true;
  if (focused) focusTitle();
}

export function showProblem(failure, label, action) {
  $("problem-text").replaceChildren(shown(failure.message));
  $("problem-request").hidden = !failure.requestId;
  $("problem-request").querySelector("code").textContent = failure.requestId ?? "";
  $("problem-action").textContent = label;
  $("problem-action").onclick = action;
  $("problem").hidden = false;
}

export function hideProblem() {
  const focused = $("problem").contains(document.activeElement);
  $("problem").hidden = true;
  if (focused) focusTitle();
}

let askForToken = () => {};

/** Set what happens when the service refuses the token: `ask` is called with the failure. */
export function whenUnauthorized(ask) {
  askForToken = ask;
}

/** Show the form for the token. */
export function unauthorized(failure) {
  askForToken(failure);
}

/** Run what a button starts, and show why it failed. */
export async function attempt(work) {
  try {
    await work();
  } catch (failure) {
    if (failure.status === 401) askForToken(failure);
    else if (failure.name !== "AbortError") showProblem(failure, "Dismiss", hideProblem);
    if (!(failure instanceof Failure) && failure.name !== "AbortError") console.error(failure);
  }
}

/** Ask a question. Resolves with the value of the chosen button, "" for Escape. The first button changes nothing. */
export function ask(title, body, choices) {
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
