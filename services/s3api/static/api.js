/** Calls of the file API: the envelope of its answers, and the token, which the tab keeps. */

/** A failure with a sentence for the user. When it is `passing`, the same request may succeed later. */
export class Failure extends Error {
  constructor(message, { status = 0, code = "", requestId = "", content = null, passing = false } = {}) {
    super(message);
    Object.assign(this, { status, code, requestId, content, passing });
  }
}

/** The browser's storage. Where the browser blocks it, which throws, a store that ends with the page. */
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

/** The headers that authorize a request. */
export function authorization() {
  const value = token.get();
  return value === null ? {} : { Authorization: `Bearer ${value}` };
}

/** The URL of a route for one file. The whole name is encoded, slashes too, so that no browser changes it. */
export function at(route, name) {
  if (name === "." || name === "..") {
    throw new Failure("The file name contains a dot segment ('.' or '..')");
  }
  return `${route}/${encodeURIComponent(name)}`;
}

/** The failure that an answer describes. A proxy's own answer is not in the service's envelope. */
export function failureOf(status, text, requestId) {
  let told = {};
  try {
    told = JSON.parse(text) ?? {};
  } catch {
    // not an envelope
  }
  return new Failure(told.message || `The service answered with status ${status}`, {
    status,
    code: told.code,
    requestId: told.request_id || requestId || "",
    content: told.content,
    passing: [408, 429, 500, 502, 503, 504].includes(status),
  });
}

/** Get bytes from the service. An answer that ends too early rejects. */
export async function callForBlob(path, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, { headers: { ...authorization(), ...headers }, cache: "no-store" });
    if (answer.ok) return await answer.blob();
  } catch {
    throw new Failure("The download broke off; some files may not be readable", { passing: true });
  }
  throw failureOf(answer.status, await answer.text(), answer.headers.get("X-Request-Id"));
}

/** Send one request. Resolves with the whole envelope; rejects with a `Failure` or the signal's reason. */
export async function call(method, path, { query = {}, headers: more = {}, json, signal } = {}) {
  const search = new URLSearchParams(query).toString();
  const headers = { ...authorization(), ...more };
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

/** The objects of an answer in JSON lines, as they arrive. An answer that ends too early rejects. */
export async function* callForLines(path, signal) {
  let answer;
  try {
    const headers = { ...authorization(), Accept: "application/x-ndjson" };
    answer = await fetch(path, { headers, signal, cache: "no-store" });
  } catch {
    signal?.throwIfAborted();
    throw new Failure("The service cannot be reached", { passing: true });
  }
  if (!answer.ok) throw failureOf(answer.status, await answer.text(), answer.headers.get("X-Request-Id"));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      let read;
      try {
        read = await reader.read();
      } catch {
        signal?.throwIfAborted();
        throw new Failure("The listing broke off; try again", { passing: true });
      }
      if (read.done) return;
      const lines = (rest + read.value).split("\n");
      rest = lines.pop();
      for (const line of lines) yield JSON.parse(line);
    }
  } finally {
    // A caller that needs no more lines ends the request.
    reader.cancel().catch(() => {});
  }
}

const CALLS_AT_ONCE = 6;

/** Call `work` for each, a few at a time. Resolves with the results, in order. The first failure rejects. */
export async function inTurns(ones, work) {
  const results = [];
  const left = ones.map((one, index) => [one, index]);
  const worker = async () => {
    while (left.length) {
      const [one, index] = left.shift();
      results[index] = await work(one);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(CALLS_AT_ONCE, left.length) }, worker));
  } catch (failure) {
    left.length = 0;
    throw failure;
  }
  return results;
}
