/** Upload links: the dialog that asks people without a token for files. */

import { call } from "./api.js";
import { $, bdi, element, moment, momentInFull, shown, unauthorized } from "./page.js";

let folder = ""; // the folder that receives the files

/** Offer an upload link for a folder. `current()` is the folder that the page shows. */
export function startRequesting(current) {
  $("request-files").addEventListener("click", () => {
    folder = current();
    $("request-text").replaceChildren("Anyone with the link can upload into ", bdi(folder), ", and can do nothing else. No existing file is replaced.");
    forgetLink();
    $("request").showModal();
  });
}

/** A link needs a folder: a link to the whole bucket would reach too far. */
export function offerRequests(prefix) {
  $("request-files").hidden = !prefix.endsWith("/");
}

async function createLink() {
  const wanted = folder;
  const size = $("request-size").value;
  $("request-create").disabled = true;
  forgetLink();
  try {
    const json = { prefix: wanted, expires: Number($("request-life").value), ...(size && { max_bytes: Number(size) }) };
    const { content } = await call("POST", "upload_links", { json });
    if (!$("request").open || wanted !== folder) return;
    // The service can know its host by another name than this browser.
    $("request-url").value = new URL(content.path, document.baseURI).href;
    const ends = new Date(content.expires_at);
    const time = element("time", { datetime: content.expires_at, title: momentInFull.format(ends) }, moment.format(ends));
    $("request-end").replaceChildren("The link is valid until ", time, ". It ends earlier if your token ends.");
    $("request-made").hidden = false;
    await copyLink();
  } catch (failure) {
    if (failure.status === 401) {
      $("request").close();
      return unauthorized(failure);
    }
    $("request-said").textContent = shown(failure.message);
  } finally {
    $("request-create").disabled = false;
  }
}

async function copyLink() {
  $("request-url").focus();
  $("request-url").select();
  try {
    await navigator.clipboard.writeText($("request-url").value);
    $("request-said").textContent = "Copied to the clipboard.";
  } catch {
    // A page has no clipboard without HTTPS, or without permission.
    $("request-said").textContent = "The page cannot use the clipboard; copy the selected text.";
  }
}

/** The link is a secret, so it leaves the page as soon as it is not shown. */
function forgetLink() {
  $("request-made").hidden = true;
  $("request-url").value = $("request-said").textContent = "";
}

$("request-create").addEventListener("click", createLink);
for (const choice of [$("request-life"), $("request-size")]) choice.addEventListener("change", forgetLink);
$("request").addEventListener("close", forgetLink);
