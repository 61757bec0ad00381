/** The order of the listing: by name, size or date, chosen in the heads of the columns. */

import { $ } from "./page.js";

/** The order at first is S3's own: by the bytes of the names. Only this order needs no complete listing. */
const order = { by: "name", descending: false };

const KEYS = { size: (file) => file.size, date: (file) => Date.parse(file.last_modified) };

export const isDefault = () => order.by === "name" && !order.descending;

/** The files, which are given in S3's order, in the chosen one. Equal files stay in S3's order. */
export function sorted(files) {
  const key = KEYS[order.by];
  if (!key) return order.descending ? files.toReversed() : files;
  const sign = order.descending ? -1 : 1;
  return files.toSorted((one, other) => sign * (key(one) - key(other)));
}

/** The folders, which have only a name. */
export const sortedFolders = (folders) => (order.by === "name" ? sorted(folders) : folders);

function choose(by) {
  // Large files and new files first: that is what a user looks for.
  order.descending = by === order.by ? !order.descending : by !== "name";
  order.by = by;
  for (const head of heads()) {
    const direction = order.descending ? "descending" : "ascending";
    if (head.dataset.by === by) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  }
}

const heads = () => $("listing").querySelectorAll("th[data-by]");

/** Call `arrange` when the user has chosen another order. */
export function startSorting(arrange) {
  for (const head of heads()) {
    head.querySelector("button").addEventListener("click", () => {
      choose(head.dataset.by);
      arrange();
    });
  }
}
