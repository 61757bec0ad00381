/** The file API as this page uses it: one envelope, and one token, kept for the tab. */

/** A failure with a sentence for people. `passing` ones may be tried again as they are. */
export class Failure extends Error {
  constructor(message, { status = 0, code = "", requestId = "", content = null, passing = false } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, content, passing });
  }
}

/** A browser that blocks storage throws at its very name; then nothing outlives the page. */
export function storage(kind) {
  try {
    return window[kind];
  } catch {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, value),
      removeItem: (key) => kept.delete(key),
      key: (at) => [...kept.keys()][at],
      get length() {
        return kept.size;
      },
    };
  }
}

const tab = storage("sessionStorage");
const TOKEN = "s3api token";

export const token = {
  get: () => tab.getItem(TOKEN),
  set: (value) => tab.setItem(TOKEN, value),
  forget: () => tab.removeItem(TOKEN),
};

/** The headers that say who asks. */
export function authorization() {
  const value = token.get();
  return value === null ? {} : { Authorization: `Bearer ${value}` };
}

/** The URL of a route for one file: its name encoded once and whole, so that no browser tidies its slashes. */
export function at(route, name) {
  if (name === "." || name === "..") {
    throw new Failure("The file name contains a dot segment ('.' or '..')");
  }
  return `${route}/${encodeURIComponent(name)}`;
}

/** What an answer that is no success says; a proxy in between may have put it in words of its own. */
export function failureOf(status, text, requestId) {
  let told = {};
  try {
    told = JSON.parse(text) ?? {};
  } catch {
    // not the service's own
  }
  return new Failure(told.message || `The service answered with status ${status}`, {
    status,
    code: told.code,
    requestId: told.request_id || requestId || "",
    content: told.content,
    passing: [408, 429, 500, 502, 503, 504].includes(status),
  });
}

/** One request; resolves with the whole envelope, rejects with a `Failure` or the signal's reason. */
export async function call(method, path, { query = {}, json, signal } = {}) {
  const search = new URLSearchParams(query).toString();
  const headers = authorization();
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(search ? `${path}?${search}` : path, {
      method,
      headers,
      body: json === undefined ? undefined : JSON.stringify(json),
      signal,
      cache: "no-store",
    });
    text = await answer.text();
  } catch {
    signal?.throwIfAborted();
    throw new Failure("The service cannot be reached", { passing: true });
  }
  if (!answer.ok) throw failureOf(answer.status, text, answer.headers.get("X-Request-Id"));
  return JSON.parse(text);
}
