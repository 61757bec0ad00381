/** The place that the location names: a folder, a search below it, or the deleted files in it. */

/** What follows the first question mark is not part of the folder: `hashOf` encodes those of names. */
export function place() {
  const [, folder, view] = /^#?([^?]*)\??(.*)$/s.exec(location.hash);
  const query = new URLSearchParams(view);
  return { prefix: decoded(folder), text: query.get("contains") ?? "", deleted: query.has("deleted") };
}

function decoded(folder) {
  try {
    return decodeURIComponent(folder);
  } catch {
    return "";
  }
}

export const hashOf = (prefix) => `#${prefix.split("/").map(encodeURIComponent).join("/")}`;
export const deletedHash = (prefix) => `${hashOf(prefix)}?deleted`;
export const searchHash = (prefix, text) => `${hashOf(prefix)}?contains=${encodeURIComponent(text)}`;
