/** The results of a request for many files: the files for which it failed, and why. */

import { bdi, element, shown } from "./page.js";
import { inFolder } from "./uploads.js";

/** The list of failed files, if there are any. The keyboard can scroll it. */
export function failedFiles(label, results) {
  if (!results.length) return [];
  const lines = results.map(({ name, message }) => element("li", {}, bdi(inFolder(name)), `: ${shown(message)}`));
  return [element("ul", { class: "failed", tabindex: "0", "aria-label": label }, ...lines)];
}
