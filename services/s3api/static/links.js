/** Downloads, and links that need no token: to a file, or to each file of a folder. */

import { Failure, at, call, callForBlob, callForLines, inTurns, token } from "./api.js";
import { $, attempt, count, element, moment, momentInFull, number, say, sentence, shown, timeInWords, timeOfDay } from "./page.js";
import { inFolder } from "./uploads.js";

const MOST_LINKS = 1000;
// The service accepts request lines of 8,190 bytes.
const LONGEST_PATH = 7000;

/** Open a file in a new tab, which shows it or saves it. */
export function openFile(name, save) {
  return attempt(async () => {
    const { content } = await call("GET", at("download", name), { query: { attachment: save } });
    element("a", { href: content, target: "_blank", rel: "noopener noreferrer" }).click();
    say(save ? `Downloading ${shown(name)}.` : `Opening ${shown(name)} in a new tab.`);
  });
}

/** Save a folder as a ZIP. */
export function downloadFolder(prefix) {
  return saveZip(`archive?prefix=${encodeURIComponent(prefix)}`, `${inFolder(prefix).replaceAll("/", "")}.zip`);
}

/** Save several files as a ZIP. */
export function downloadFiles(names) {
  return saveZip(`archive?${names.map((name) => `name=${encodeURIComponent(name)}`).join("&")}`, "files.zip");
}

/** A link cannot send the token, so with a token the page reads the ZIP first. */
function saveZip(path, name) {
  return attempt(async () => {
    if (path.length > LONGEST_PATH) {
      throw new Failure("These are too many files for one ZIP; select fewer, or download their folder as a ZIP");
    }
    say(`Downloading ${shown(name)}.`);
    if (token.get() === null) return element("a", { href: path, download: name }).click();
    const url = URL.createObjectURL(await callForBlob(path));
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
}

// --- links

let linked = []; // the names of the files to which the dialog shows links

const field = () => (linked.length === 1 ? $("link-url") : $("link-list"));

/** Show links that are valid for `seconds`, or for the default time. False if the dialog shows others meanwhile. */
async function newLinks(seconds = "") {
  const wanted = linked;
  const query = { ...(seconds && { expires: seconds }), ...(linked.length > 1 && { check: false }) };
  const answers = await inTurns(linked, (name) => call("GET", at("download", name), { query }));
  if (wanted !== linked) return false;
  const first = answers.map((answer) => answer.expires_at).sort()[0];
  const ends = new Date(first);
  const left = (ends - Date.now()) / 1000;
  const end = (left < 12 * 3600 ? timeOfDay : moment).format(ends);
  const time = element("time", { datetime: first, title: momentInFull.format(ends) }, end);
  const words = linked.length === 1 ? "this link can download the file" : `these ${number.format(linked.length)} links can download the files`;
  $("link-text").replaceChildren(`Anyone with ${words} until `, time, ` (${timeInWords(left)}).`);
  field().value = answers.map((answer) => answer.content).join("\n");
  $("link-copied").textContent = "";
  return true;
}

export const showLink = (name) => attempt(() => show([name], sentence`Link to ${inFolder(name)}`));

/** Show a link to each file of a folder: one link to all of them would need the token. */
export function showFolderLinks(prefix) {
  return attempt(async () => {
    const names = [];
    for await (const file of callForLines(`list_files?prefix=${encodeURIComponent(prefix)}`)) {
      names.push(file.name);
      if (names.length > MOST_LINKS) {
        throw new Failure(`The folder has more than ${count(MOST_LINKS, "file")}; download it as a ZIP instead`);
      }
    }
    if (!names.length) throw new Failure("The folder has no files any more");
    await show(names, sentence`Links to the files in ${inFolder(prefix)}`);
  });
}

async function show(names, title) {
  linked = names;
  if (!(await newLinks())) return;
  $("link-title").replaceChildren(...title);
  $("link-life").value = "";
  $("link-copy").disabled = false;
  $("link-url").hidden = names.length !== 1;
  $("link-list").hidden = names.length === 1;
  $("link").showModal();
  await copyLink();
}

/** Replace the links by some with the chosen life. If the service refuses it, the dialog has no link. */
$("link-life").addEventListener("change", async () => {
  $("link-life").disabled = $("link-copy").disabled = true;
  const wanted = linked;
  try {
    if (!(await newLinks($("link-life").value))) return;
    await copyLink();
    $("link-copy").disabled = false;
  } catch (failure) {
    if (wanted !== linked) return;
    field().value = "";
    $("link-text").replaceChildren();
    $("link-copied").textContent = shown(failure.message);
  } finally {
    $("link-life").disabled = false;
  }
  $("link-life").focus();
});

async function copyLink() {
  field().select();
  try {
    await navigator.clipboard.writeText(field().value);
    $("link-copied").textContent = "Copied to the clipboard.";
  } catch {
    // A page has no clipboard without HTTPS, or without permission.
    $("link-copied").textContent = "The page cannot use the clipboard; copy the selected text.";
  }
}

$("link-copy").addEventListener("click", copyLink);

// An answer that comes late is not shown under the title of another file.
$("link").addEventListener("close", () => {
  linked = [];
});
