/** Sends one file: directly to S3 by the service's plan, or through the service where the browser cannot reach S3.
 *
 * Files are read in slices, so a large file needs little memory. The browser stores the id of a multipart upload
 * until the upload ends. When the page is closed before that, the same file continues from the parts that S3 has.
 *
 * Every upload is verified. S3 checks the SHA-256 of a form, where the browser can compute one. The ETag of each part,
 * and of the completed file, is compared with the MD5.
 */

import { Failure, at, authorization, call, failureOf, storage } from "./api.js";
import { Md5s, hex, md5 } from "./md5.js";

// A browser opens six connections to one server: two files with three parts each.
const PARTS_AT_ONCE = 3;
const ATTEMPTS = 6;
const ROUNDS = 3;
const STALLED_MS = 60_000;
// The browser computes a SHA-256 only of data that is in memory as a whole.
const HASHED_AT_ONCE = 64 * 1024 * 1024;

/** S3 did not answer: the network failed, or the CORS rules of the bucket do not allow this page. */
class NoAnswer extends Failure {
  constructor() {
    super("S3 cannot be reached from this browser", { passing: true });
  }
}

let answered = false; // S3 has answered this page before, so its CORS rules allow the page
let throughServiceOnly = false;

// --- unfinished uploads

const memory = storage("localStorage");
const MEMORY = "s3api upload ";
const running = new Map(); // by key: the plan, or null before there is one

const keyOf = (name, file) => MEMORY + JSON.stringify([name, file.size, file.lastModified]);

function recall(key) {
  try {
    return running.get(key) ?? JSON.parse(memory.getItem(key));
  } catch {
    return null;
  }
}

function remember(key, plan) {
  running.set(key, plan);
  try {
    memory.setItem(key, JSON.stringify(plan));
  } catch {
    // with full storage the upload works, and cannot be resumed
  }
}

function forget(key) {
  if (running.has(key)) running.set(key, null);
  memory.removeItem(key);
}

/** Uploads that an earlier page began and no page is sending: `{ key, name, size, lastModified, id }` each. */
export async function interrupted() {
  // Another tab holds a lock while it sends.
  const locks = await navigator.locks?.query();
  const held = new Set([...running.keys(), ...(locks?.held ?? []).map((lock) => lock.name)]);
  const keys = Array.from({ length: memory.length }, (_, index) => memory.key(index));
  return keys
    .filter((key) => key.startsWith(MEMORY) && !held.has(key) && recall(key)?.id)
    .map((key) => {
      const [name, size, lastModified] = JSON.parse(key.slice(MEMORY.length));
      return { key, name, size, lastModified, id: recall(key).id };
    });
}

/** Abort an upload, so that S3 deletes its parts. Resolves with false when the file is already complete. */
export async function discard(key) {
  const plan = recall(key);
  forget(key);
  return !plan || abort(plan.id);
}

async function abort(id) {
  try {
    await call("DELETE", `uploads/${id}`, { signal: AbortSignal.timeout(10_000) });
  } catch (failure) {
    // It is gone, or cannot be reached; the bucket's lifecycle rule then deletes the parts.
    return failure.code !== "upload_completed";
  }
  return true;
}

// --- trying again

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** The step's result. Passing failures are retried, after a pause that doubles each time. */
async function persist(step, signal) {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await step();
    } catch (failure) {
      const most = failure instanceof NoAnswer && !answered ? 2 : ATTEMPTS;
      if (signal.aborted || !failure.passing || attempt >= most) throw failure;
      await pause(500 * 2 ** (attempt - 1) * (0.75 + Math.random() / 2), signal);
    }
  }
}

/** Run the work for each number, `most` at a time. The first failure stops the others. */
async function inParallel(numbers, most, signal, work) {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const left = [...numbers];
  const worker = async () => {
    while (left.length) await work(left.shift(), either);
  };
  const workers = Array.from({ length: Math.min(most, left.length) }, worker);
  try {
    await Promise.all(workers);
  } catch (failure) {
    failed.abort(failure);
    await Promise.allSettled(workers);
    throw failure;
  }
}

// --- sending

/** Send a request and report its progress, which fetch cannot. Resolves with the answer, whatever its status. */
function transfer(method, url, body, { headers = {}, signal, progress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let watch, stalled = false;
    const alive = () => {
      clearTimeout(watch);
      watch = setTimeout(() => ((stalled = true), request.abort()), STALLED_MS);
    };
    const stop = () => request.abort();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => (alive(), progress(event.loaded));
    request.onload = () => resolve({ status: request.status, text: request.responseText });
    request.onerror = () => reject(null);
    request.onabort = () => reject(stalled ? null : signal.reason);
    request.onloadend = () => (clearTimeout(watch), signal.removeEventListener("abort", stop));
    signal.addEventListener("abort", stop);
    alive();
    request.send(body);
  });
}

/** Fails when the file was changed, moved or deleted after it was chosen, which makes its request fail too. */
const assertReadable = (file) => readable(() => file.slice(0, 1).arrayBuffer());

async function readable(read) {
  try {
    return await read();
  } catch (failure) {
    if (!(failure instanceof DOMException) || failure.name === "AbortError") throw failure;
    throw new Failure("The file can no longer be read, or has changed; choose it again");
  }
}

/** The MD5 of one part of the file. */
function md5Of(digests, plan, file, number, signal) {
  const start = (number - 1) * plan.part_size;
  return readable(() => digests.of(start, start + sizeOf(plan, file, number), signal));
}

async function toS3(method, url, body, file, options) {
  let answer;
  try {
    answer = await transfer(method, url, body, options);
  } catch (reason) {
    options.signal.throwIfAborted();
    await assertReadable(file);
    throw reason ?? new NoAnswer();
  }
  answered = true;
  if (answer.status >= 200 && answer.status < 300) return;
  const signs = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  const told = (tag) =>
    (new RegExp(`<${tag}>([^<]*)</${tag}>`).exec(answer.text)?.[1] ?? "").replace(/&(\w+);/g, (all, sign) => signs[sign] ?? all);
  throw new Failure(`S3 refused the upload: ${told("Message") || told("Code") || `status ${answer.status}`}`, {
    status: answer.status,
    code: told("Code"),
    requestId: told("RequestId"),
    passing: answer.status >= 500 || answer.status === 429 || told("Code") === "RequestTimeout",
  });
}

/** Send a file under a name.
 *
 * `replace` allows an existing file of that name to be replaced. `report` is called with `{ sent, via, resumed }`: the
 * bytes sent, "S3" or "the service", and the bytes that S3 already had. Rejects with a `Failure`, or with the signal's
 * reason after an abort has removed the upload. An abort after the upload is complete has no effect.
 */
export async function send(file, name, { replace, signal, report }) {
  const key = keyOf(name, file);
  const alone = navigator.locks
    ? (work) => navigator.locks.request(key, { ifAvailable: true }, (lock) => work(lock !== null))
    : (work) => work(true);
  return alone(async (mine) => {
    if (!mine || running.has(key)) throw new Failure("Another tab is uploading this file");
    running.set(key, null);
    try {
      await sendDirectly(file, name, key, { replace, signal, report });
    } catch (failure) {
      if (!signal.aborted || (await discard(key))) throw failure;
    } finally {
      running.delete(key);
    }
  });
}

async function sendDirectly(file, name, key, options) {
  const { signal } = options;
  const { plan, received } = (await resumable(key, file, signal)) ?? {};
  if (!plan && throughServiceOnly) return sendThroughService(file, name, options);
  try {
    if (plan) await sendParts(file, plan, received, key, options);
    else await sendPlanned(file, name, key, options);
    forget(key);
  } catch (failure) {
    if (!(failure instanceof NoAnswer) || answered) throw failure;
    // CORS can hide the answer to a form that S3 has stored. A file of this name may be the one just sent, so it may be
    // replaced. An upload in parts has not created a file yet.
    const replace = options.replace || recall(key) === null;
    await discard(key);
    await sendThroughService(file, name, { ...options, replace });
    throughServiceOnly = true;
  }
}

/** The plan of an unfinished upload of this file, and the parts that S3 has. */
async function resumable(key, file, signal) {
  const plan = recall(key);
  if (!plan?.id) return null;
  try {
    const { content } = await persist(() => call("GET", `uploads/${plan.id}/parts`, { signal }), signal);
    answered ||= content.length > 0;
    return { plan, received: await matching(plan, file, content, signal) };
  } catch (failure) {
    if (failure.code !== "upload_not_found") throw failure;
    forget(key);
    return null;
  }
}

/** The MD5s, by number, of the parts at S3 that are equal to the file's. None where the ETags are not MD5s. */
async function matching(plan, file, parts, signal) {
  const found = new Map();
  if (!plan.md5_etags) return found;
  const digests = new Md5s(file);
  for (const part of parts) {
    if (part.size !== sizeOf(plan, file, part.number)) continue;
    const digest = await md5Of(digests, plan, file, part.number, signal);
    if (hex(digest) === part.etag) found.set(part.number, digest);
  }
  return found;
}

async function sendPlanned(file, name, key, options) {
  const { signal, report } = options;
  const asked = { name, size: file.size };
  if (file.type) asked.content_type = file.type;
  // Only pages over HTTPS, or on this machine, have `crypto.subtle`.
  if (crypto.subtle && file.size <= HASHED_AT_ONCE) {
    asked.sha256 = hex(new Uint8Array(await readable(async () => crypto.subtle.digest("SHA-256", await file.arrayBuffer()))));
  }
  // This request is not aborted: S3 may have begun an upload, which cannot be aborted without its id.
  const { content: plan } = await persist(() => call("POST", "uploads", { json: asked }), signal);
  if (plan.method === "MULTIPART") {
    remember(key, plan);
    return sendParts(file, plan, new Map(), key, options);
  }
  const form = new FormData();
  for (const [field, value] of Object.entries(plan.fields)) form.append(field, value);
  form.append("file", file, "file");
  // The progress includes the fields of the form; report the bytes of the file.
  const progress = (loaded) => report({ sent: Math.min(loaded, file.size), via: "S3" });
  await persist(() => toS3("POST", plan.url, form, file, { signal, progress }), signal);
}

const sizeOf = (plan, file, number) => Math.min(plan.part_size, file.size - (number - 1) * plan.part_size);

/** Send the parts that S3 does not have, and complete. `md5s` has the MD5s, by number, of the parts that it has. */
async function sendParts(file, plan, md5s, key, { signal, report }) {
  const digests = new Md5s(file);
  const numbers = Array.from({ length: plan.parts }, (_, index) => index + 1);
  const sent = new Map([...md5s.keys()].map((number) => [number, sizeOf(plan, file, number)]));
  const sum = () => [...sent.values()].reduce((total, bytes) => total + bytes, 0);
  const resumed = sum();
  const tell = () => report({ sent: sum(), via: "S3", resumed });
  let missing = numbers.filter((number) => !sent.has(number));
  tell();
  for (let round = 1; ; round++) {
    await inParallel(missing, PARTS_AT_ONCE, signal, async (number, either) => {
      const part = file.slice((number - 1) * plan.part_size, number * plan.part_size);
      md5s.set(number, await md5Of(digests, plan, file, number, either));
      await persist(async () => {
        sent.set(number, 0);
        const asked = { json: { parts: [number] }, signal: either };
        const [signed] = (await call("POST", `uploads/${plan.id}/parts`, asked)).content;
        const progress = (loaded) => (sent.set(number, loaded), tell());
        await toS3("PUT", signed.url, part, file, { signal: either, progress });
        progress(part.size);
      }, either);
    });
    missing = await differing(plan, md5s, signal);
    if (missing.length) {
      if (round === ROUNDS) throw new Failure("S3 does not hold the bytes that were sent; nothing was stored");
      continue;
    }
    try {
      const { content } = await persist(() => call("POST", `uploads/${plan.id}/complete`, { signal }), signal);
      return await assertSent(content.etag, plan, numbers.map((number) => md5s.get(number)), key);
    } catch (failure) {
      // S3 reports which parts it lacks.
      if (failure.code !== "invalid_parts" || !failure.content?.missing || round === ROUNDS) throw failure;
      missing = failure.content.missing;
    }
  }
}

/** The numbers of the parts whose bytes at S3 differ from those that were sent. */
async function differing(plan, md5s, signal) {
  if (!plan.md5_etags) return [];
  const { content } = await persist(() => call("GET", `uploads/${plan.id}/parts`, { signal }), signal);
  const right = content.filter((part) => part.etag === hex(md5s.get(part.number))).map((part) => part.number);
  return [...new Set(content.map((part) => part.number))].filter((number) => !right.includes(number));
}

/** Check the ETag of a multipart upload, which is the MD5 of the MD5s of its parts. */
async function assertSent(etag, plan, md5s, key) {
  if (!plan.md5_etags || etag === `${hex(await md5(new Blob(md5s)))}-${md5s.length}`) return;
  forget(key); // the upload is complete, so it cannot be resumed
  throw new Failure("S3 does not hold the file that was sent; something else wrote to it. Upload it again");
}

async function sendThroughService(file, name, { replace, signal, report }) {
  const headers = { ...authorization(), ...(replace ? {} : { "If-None-Match": "*" }) };
  const progress = (loaded) => report({ sent: loaded, via: "the service" });
  progress(0);
  await persist(async () => {
    let answer;
    try {
      answer = await transfer("PUT", at("upload", name), file, { headers, signal, progress });
    } catch {
      signal.throwIfAborted();
      await assertReadable(file);
      throw new Failure("The service cannot be reached", { passing: true });
    }
    if (answer.status !== 200) throw failureOf(answer.status, answer.text);
  }, signal);
}
