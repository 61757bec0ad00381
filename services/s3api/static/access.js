/** What the caller may do: the verbs and the prefix of the token, as the service reports them. */

import { call } from "./api.js";
import { $ } from "./page.js";

let known = null;

/** Ask the service, once for each token. The style sheet hides an element if the token lacks a verb in its `data-needs`. */
export async function learn(signal) {
  known ??= (await call("GET", "whoami", { signal })).content;
  document.body.dataset.may = known.verbs.join(" ");
  return known;
}

export function unlearn() {
  known = null;
  delete document.body.dataset.may;
}

export const may = (verb) => known?.verbs.includes(verb) ?? false;

/** Whether the folder begins with the prefix of the token, so that the token is valid for all of it. */
export const isWithin = (folder) => folder.startsWith(known?.prefix ?? "");

/** The folder that a user means: 'docs' is 'docs/' if the token is limited to that folder. */
export function folderMeant(text) {
  const folder = text.trim();
  return !isWithin(folder) && isWithin(`${folder}/`) ? `${folder}/` : folder;
}

/** The folder with which the page begins: the one to which the token is limited. */
export const home = () => known?.prefix ?? "";

/** Offer the token's own folder in the form that opens a folder. */
export function offerHome() {
  $("go-folder").value = home();
}
