/** The total of several uploads: one line and one bar above their list. */

import { $, count, number, sizeInWords } from "./page.js";

const many = (batch, state) => [...batch].filter((one) => one.state === state).length;

/** Show how far the uploads are. One upload is its own total. */
export function showTotal(batch) {
  const ones = [...batch];
  const open = ones.some((one) => !one.ended);
  $("cancel-all").hidden = $("uploads-total").hidden = !open || ones.length < 2;
  $("uploads-text").hidden = ones.length < 2;
  if (ones.length < 2) return;
  const size = ones.reduce((sum, one) => sum + one.file.size, 0);
  const sent = ones.reduce((sum, one) => sum + Math.min(one.sent, one.file.size), 0);
  const ended = ones.filter((one) => one.ended).length;
  // A file counts also if it is empty, so that the bar moves.
  $("uploads-total").max = size + ones.length;
  $("uploads-total").value = sent + ended;
  const words = open
    ? `${number.format(ended)} of ${count(ones.length, "file")} · ${sizeInWords(sent)} of ${sizeInWords(size)}`
    : resultInWords(batch);
  if ($("uploads-text").textContent !== words) $("uploads-text").textContent = words;
}

export function resultInWords(batch) {
  const failed = many(batch, "failed");
  return `Uploaded ${count(many(batch, "done"), "file")}${failed ? `; ${number.format(failed)} failed` : ""}.`;
}
