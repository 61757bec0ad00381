/** Deleting files and folders, and restoring them. */

import { may } from "./access.js";
import { Failure, at, call, callForLines, inTurns } from "./api.js";
import { $, ask, attempt, closeNotice, count, element, hideProblem, notify, number, sentence, showProblem, sizeInWords, unauthorized } from "./page.js";
import { inFolder } from "./uploads.js";

/** The page: `refresh()` loads its files again, `removed(names)` takes files off it, `focus(name)` goes to a file. */
let page = null;

export function startDeleting(host) {
  page = host;
}

/** What Undo would restore. A further deletion adds to it, so that Undo loses nothing. */
let deleted = [];

/** The files are restored already, so Undo need not restore them. */
export function forgetDeleted(names) {
  if (!deleted.length) return;
  const restored = new Set(names);
  deleted = deleted.filter((name) => !restored.has(name));
  if (!deleted.length && !$("undo").hidden) closeNotice();
}

/** Ask, and delete the files. */
export async function remove(names) {
  const title = names.length === 1 ? sentence`Delete ${inFolder(names[0])}?` : [`Delete ${count(names.length, "file")}?`];
  await attempt(() => removeAfterQuestion(title, "", names));
}

/** Ask, and delete every file in a folder. */
export async function removeFolder(prefix) {
  await attempt(async () => {
    const names = [];
    let bytes = 0;
    for await (const file of callForLines(`list_files?prefix=${encodeURIComponent(prefix)}`)) {
      names.push(file.name);
      bytes += file.size;
    }
    if (!names.length) return page.refresh();
    const words = `It has ${count(names.length, "file")}, ${sizeInWords(bytes)} in all. `;
    await removeAfterQuestion(sentence`Delete the folder ${inFolder(prefix)}?`, words, names);
  });
}

async function removeAfterQuestion(title, words, names) {
  const [it, is] = names.length === 1 ? ["it", "is"] : ["them", "are"];
  const gone = `${it === "it" ? "it" : "they"} ${is} gone for good.`;
  const fate = may("write")
    ? `Undo brings ${it} back if the bucket keeps versions. If it keeps none, ${gone}`
    : `If the bucket keeps no versions, ${gone}`;
  const choices = [["", "Cancel"], ["delete", "Delete", "danger"]];
  if ((await ask(title, [element("p", {}, words + fate)], choices)) !== "delete") return;
  const done = [];
  const failed = [];
  try {
    for (let start = 0; start < names.length; start += 1000) {
      const { content } = await call("POST", "delete", { json: { files: names.slice(start, start + 1000) } });
      for (const result of content) {
        if (result.deleted) done.push(result.name);
        else failed.push(result);
      }
    }
  } finally {
    // Also after a failure the files that are gone can be restored.
    if (done.length || failed.length) await report(done, failed);
  }
}

async function report(done, failed) {
  await page.removed(done);
  if (failed.length) {
    const [{ name, code }] = failed;
    const others = failed.length > 1 ? `, and ${count(failed.length - 1, "other")}` : "";
    const reason = code === "invalid_file_name" ? "another S3 client must delete this name" : code;
    showProblem(new Failure(`Could not delete '${name}' (${reason})${others}`), "Dismiss", hideProblem);
  }
  if (!done.length) return;
  // Undo stays until it is used or dismissed.
  const before = $("notice").hidden || $("undo").hidden ? [] : deleted;
  deleted = [...before, ...done];
  notify(
    deleted.length === 1 ? sentence`Deleted ${inFolder(done[0])}.` : [`Deleted ${count(deleted.length, "file")}.`],
    may("write") ? () => restore(deleted) : null,
  );
  (may("write") ? $("undo") : $("notice-close")).focus();
}

async function restore(names) {
  $("undo").disabled = true;
  const left = new Set(names);
  let refusal = null;
  let stopped = false;
  await inTurns(names, async (name) => {
    if (stopped) return;
    try {
      await call("POST", at("restore", name));
      left.delete(name);
    } catch (failure) {
      refusal ??= failure;
      stopped = failure.passing || failure.status === 401;
    }
  });
  $("undo").disabled = false;
  const asked = new Set(names);
  // What was deleted meanwhile, and what a later attempt may restore.
  deleted = [...(stopped ? left : []), ...deleted.filter((name) => !asked.has(name))];
  await page.refresh();
  const restored = names.length - left.size;
  const again = deleted.length ? () => restore(deleted) : null;
  if (refusal) {
    if (again) notify([`Restored ${number.format(restored)} of ${count(names.length, "file")}.`], again);
    else closeNotice();
    // A role that may not read the versioning of the bucket answers "not found" instead.
    if (refusal.code === "file_not_found") refusal.message += ": the bucket keeps no version of it, it cannot be restored";
    if (restored) refusal.message += `. ${count(restored, "file was", "files were")} restored`;
    if (refusal.status === 401) unauthorized(refusal);
    else showProblem(refusal, "Dismiss", hideProblem);
    return;
  }
  notify(names.length === 1 ? sentence`Restored ${inFolder(names[0])}.` : [`Restored ${count(restored, "file")}.`], again);
  page.focus(names[0]);
}
