/** A search by a part of the name, in a folder and in all folders below it. The service compares the names. */

import { callForLines } from "./api.js";
import { hashOf } from "./location.js";
import { $, bdi, count, say, showProblem, unauthorized } from "./page.js";

// A longer list helps no one, and costs the browser much memory.
const MOST_FOUND = 5000;

let stopping = null; // the AbortController of the search that runs

export const isSearching = () => stopping !== null;

/** Show the line about the search, or hide it if the page shows a folder. */
export function showSearchLine(prefix, text) {
  $("search").hidden = !text;
  const words = text ? "Filter these results" : "Filter this folder";
  $("filter").setAttribute("aria-label", words);
  $("filter").placeholder = words;
  if (!text) return;
  $("search-title").replaceChildren("Names with “", bdi(text), "” in ", ...(prefix ? [bdi(prefix), " and below"] : ["all folders"]));
  $("search-back").href = hashOf(prefix);
}

/** Search, and call `add(files)` as they are found. `again` starts the search anew after a failure. */
export async function search(prefix, text, signal, { add, again }) {
  const stop = (stopping = new AbortController());
  const path = `list_files?prefix=${encodeURIComponent(prefix)}&contains=${encodeURIComponent(text)}`;
  let searched = 0;
  let found = 0;
  let files = [];
  const tell = (end) => {
    found += files.length;
    if (files.length) add(files);
    files = [];
    $("search-text").textContent = `${count(found, "file")} found${searched ? ` in ${count(searched, "name")}` : ""}${end}`;
  };
  $("search-stop").hidden = false;
  tell("; searching…");
  let end = ".";
  try {
    for await (const line of callForLines(path, AbortSignal.any([signal, stop.signal]))) {
      if ("name" in line) files.push(line);
      else {
        searched = line.searched;
        tell("; searching…");
      }
      if (found + files.length >= MOST_FOUND) {
        end = ". The search ended there: search for more of the name.";
        break;
      }
    }
  } catch (failure) {
    if (signal.aborted) return;
    stopping = null;
    end = ". The search was stopped.";
    if (failure.status === 401) return unauthorized(failure);
    if (!stop.signal.aborted) showProblem(failure, "Search again", again);
  }
  if (signal.aborted) return;
  stopping = null;
  const focused = document.activeElement === $("search-stop");
  $("search-stop").hidden = true;
  tell(end);
  if (focused) $("search-back").focus();
  say($("search-text").textContent);
}

$("search-stop").addEventListener("click", () => stopping?.abort());
