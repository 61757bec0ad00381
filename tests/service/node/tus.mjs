// Uploads with tus-js-client: one upload is interrupted and resumed, another one is terminated.
import { Upload } from "tus-js-client";

const endpoint = process.argv[2];
const data = Buffer.alloc(12 * 1024 * 1024, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));

/** Start an upload. `stop` ends it when the server has taken a chunk. */
const run = (options, stop) =>
  new Promise((resolve, reject) => {
    const upload = new Upload(data, {
      endpoint,
      chunkSize: 7 * 1024 * 1024,
      retryDelays: [0, 500, 1000],
      onError: reject,
      onSuccess: () => resolve(upload),
      onChunkComplete: (_, accepted) => stop && upload.abort(stop === "terminate").then(() => resolve({ url: upload.url, accepted })),
      ...options,
    });
    upload.start();
  });

const head = (url) => fetch(url, { method: "HEAD", headers: { "Tus-Resumable": "1.0.0" } });
const first = await run({ metadata: { filename: "tus-js.bin", filetype: "application/octet-stream" } }, "interrupt");
const interrupted = Number((await head(first.url)).headers.get("Upload-Offset"));
await run({ uploadUrl: first.url });
const after = (await head(first.url)).headers;
const ended = await run({ metadata: { filename: "terminated.bin" } }, "terminate");
console.log(
  JSON.stringify({
    interrupted,
    resumed: Number(after.get("Upload-Offset")),
    size: Number(after.get("Upload-Length")),
    terminated: (await head(ended.url)).status,
  }),
);
