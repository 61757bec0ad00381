/** Which names are taken, before an upload. */

import { call } from "./api.js";

// Up to this many names, a request for each is the fewest.
const FEW = 6;
const AT_ONCE = 6;
const NEXT_PAGES = 1000;

/** Find the names that are taken, as a Map to their files. The names are those of files to be put into `folder`.
 *
 * `unknown` is true if the token may not list them. Many names are looked up by listing their folders. A folder that
 * does not exist needs no request.
 */
export async function lookUp(folder, names) {
  const taken = new Map();
  try {
    const below = names.filter((name) => name.startsWith(folder));
    const elsewhere = names.filter((name) => !name.startsWith(folder));
    await Promise.all([lookInto(folder, below, taken), lookUpEach(elsewhere, taken)]);
  } catch (failure) {
    if (failure.status === 403) return { taken, unknown: true };
    throw failure;
  }
  return { taken, unknown: false };
}

async function lookInto(folder, names, taken) {
  if (names.length <= FEW) return lookUpEach(names, taken);
  const here = new Set();
  const inside = new Map(); // the names in each folder below this one
  for (const name of names) {
    const slash = name.indexOf("/", folder.length);
    if (slash < 0) here.add(name);
    else {
      const inner = name.slice(0, slash + 1);
      if (!inside.has(inner)) inside.set(inner, []);
      inside.get(inner).push(name);
    }
  }
  const existing = [];
  let cursor;
  // Listing a very large folder takes more requests than asking for each name.
  for (let pages = 0; pages === 0 || cursor; pages++) {
    if (pages > here.size + inside.size) return lookUpEach(names, taken);
    const query = { prefix: folder, delimiter: "/", limit: NEXT_PAGES, details: true, ...(cursor && { cursor }) };
    const { content, prefixes, next } = await call("GET", "list_files", { query });
    for (const file of content) if (here.has(file.name)) taken.set(file.name, file);
    existing.push(...prefixes.filter((prefix) => inside.has(prefix)));
    cursor = next;
  }
  for (const inner of existing) await lookInto(inner, inside.get(inner), taken);
}

async function lookUpEach(names, taken) {
  const left = [...names];
  const look = async () => {
    while (left.length) {
      const name = left.shift();
      try {
        // A name sorts before the longer names that begin with it.
        const { content } = await call("GET", "list_files", { query: { prefix: name, limit: 1, details: true } });
        if (content[0]?.name === name) taken.set(name, content[0]);
      } catch (failure) {
        if (failure.status === 400) continue; // the upload reports a name that is refused
        left.length = 0;
        throw failure;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, left.length) }, look));
}
