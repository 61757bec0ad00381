/** The versions of a file, and the restore of one of them. */

import { may } from "./access.js";
import { at, call } from "./api.js";
import { $, attempt, count, element, moment, momentInFull, say, sentence, shown, sizeInWords, unauthorized } from "./page.js";
import { inFolder } from "./uploads.js";

/** The page: `refresh()` loads its files again, and `focus(name)` goes to a file. */
let page = null;
/** The file in the dialog: its newest version, or the marker of its deletion, and the cursor of older ones. */
let file = null;

export function startVersions(host) {
  page = host;
}

/** Show the versions of a file, the newest first. */
export function showVersions(name) {
  return attempt(async () => {
    file = { name, newest: null, next: null };
    $("versions-list").replaceChildren();
    $("versions-result").textContent = "";
    await loadMore();
    $("versions-title").replaceChildren(...sentence`Versions of ${inFolder(name)}`);
    $("versions").showModal();
  });
}

async function loadMore() {
  const wanted = file;
  const query = { limit: 100, ...(wanted.next && { cursor: wanted.next }) };
  const { content, next } = await call("GET", at("versions", wanted.name), { query });
  if (wanted !== file) return;
  file.newest ??= content[0];
  file.next = next;
  $("versions-list").append(...content.map(versionLine));
  $("versions-more").hidden = !next;
}

function versionLine(version) {
  const { last_modified: time, latest, deleted, size, version: id } = version;
  const when = new Date(time);
  const told = deleted ? "Deleted" : `${sizeInWords(size)}${latest ? " · the file as it is now" : ""}`;
  const restore = element(
    "button",
    { type: "button", class: "plain", "aria-label": `Restore the version of ${momentInFull.format(when)}`, onclick: () => restoreVersion(id) },
    "Restore",
  );
  return element(
    "li",
    {},
    element("time", { datetime: time, title: momentInFull.format(when) }, moment.format(when)),
    element("span", { class: "quiet", title: deleted ? null : count(size, "byte") }, told),
    ...(deleted || latest || !may("write") ? [] : [restore]),
  );
}

/** Restore a version, only over the file that the dialog shows as the newest. It stays a version. */
async function restoreVersion(version) {
  const { name, newest } = file;
  try {
    const headers = newest.deleted ? {} : { "If-Match": `"${newest.etag}"` };
    await call("POST", at("restore", name), { query: { version }, headers });
  } catch (failure) {
    if (failure.status === 401) {
      $("versions").close();
      return unauthorized(failure);
    }
    $("versions-result").textContent = shown(failure.message);
    return;
  }
  $("versions").close();
  await attempt(() => page.refresh());
  page.focus(name);
  say(`Restored the version of ${shown(inFolder(name))}.`);
}

$("versions-more").addEventListener("click", async () => {
  try {
    await loadMore();
  } catch (failure) {
    $("versions-result").textContent = shown(failure.message);
  }
});
