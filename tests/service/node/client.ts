// A user's client: types by openapi-typescript, requests by openapi-fetch. It prints what it saw as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const [, , baseUrl, token] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
const name = "node/ü +(1).txt";
const path = { name };

function got<T>(result: { data?: T; error?: components["schemas"]["Failure"] }): T {
  if (result.data === undefined) throw new Error(`${result.error?.code}: ${result.error?.message}`);
  return result.data;
}

const raw = got(
  await client.PUT("/upload/{name}", {
    params: { path },
    headers: { "Content-Type": "application/octet-stream" },
    body: "some text",
    bodySerializer: (body) => body,
  }),
);
const form = got(
  await client.POST("/upload", {
    body: { file: ["in a form"], prefix: "node/" },
    bodySerializer: ({ file, prefix }) => {
      const data = new FormData();
      if (prefix !== undefined) data.append("prefix", prefix);
      for (const one of file) data.append("file", new Blob([one]), "form.txt");
      return data;
    },
  }),
);
const page = got(await client.GET("/list_files", { params: { query: { prefix: "node/", details: true } } }));
if (typeof page === "string") throw new Error("JSON lines, which nothing here asks for");
const sizes = page.content.map((file) => (typeof file === "string" ? -1 : file.size));
const bytes: ArrayBuffer = got(await client.GET("/files/{name}", { params: { path }, parseAs: "arrayBuffer" }));
const link = got(await client.GET("/download/{name}", { params: { path } }));
got(await client.DELETE("/delete/{name}", { params: { path } }));
const gone = await client.GET("/download/{name}", { params: { path } });
const restored = got(await client.POST("/restore/{name}", { params: { path } }));
const { content: plan } = got(await client.POST("/uploads", { body: { name: "node/planned", size: 5 } }));

console.log(
  JSON.stringify({
    uploaded: [...raw.content, ...form.content].map((file) => file.name),
    sizes,
    text: new TextDecoder().decode(bytes),
    linked: await (await fetch(link.content)).text(),
    gone: gone.error?.code,
    restored: restored.content.name,
    plan: plan.method === "POST" && "policy" in plan.fields,
  }),
);
