/** A preview of text, tables and pictures, without leaving the page.
 *
 * The page reads the first bytes of a file through the service. It shows them as text only: nothing of a file is ever
 * parsed as HTML. A picture is drawn, so the policy of the page needs no exception for images.
 */

import { Failure, callForBlob } from "./api.js";
import { $, attempt, element, icon, number, sentence, shown, sizeInWords } from "./page.js";
import { openFile } from "./links.js";
import { inFolder } from "./uploads.js";

const TEXT = /\.(txt|text|log|md|json|jsonl|xml|ya?ml|toml|ini|conf|cfg|sql|py|js|ts|css|sh|tf|html?)$/i;
const TABLE = /\.(csv|tsv)$/i;
const PICTURE = /\.(png|jpe?g|gif|webp)$/i;
const FIRST_BYTES = 64 * 1024;
const LARGEST_PICTURE = 10_000_000;
const WIDEST_PICTURE = 1200;
const ROWS = 200;
const COLUMNS = 50;

const KINDS = [[TEXT, showText], [TABLE, showTable], [PICTURE, showPicture]];

/** The button that previews a file; nothing if the page cannot show files of its kind. */
export function previewButton({ name, size }) {
  const show = KINDS.find(([pattern]) => pattern.test(name))?.[1];
  if (!show || (show === showPicture && size > LARGEST_PICTURE)) return [];
  const label = `Preview ${shown(inFolder(name))}`;
  const onclick = () => attempt(() => preview(name, size, show));
  return [element("button", { type: "button", class: "icon", "aria-label": label, title: "Preview", onclick }, icon("preview"))];
}

async function preview(name, size, show) {
  const bytes = show === showPicture ? size : FIRST_BYTES;
  // An empty file has no range.
  const read = size ? await callForBlob(`files/${encodeURIComponent(name)}`, { Range: `bytes=0-${bytes - 1}` }) : new Blob();
  $("preview-body").replaceChildren(await show(read, inFolder(name)));
  $("preview-title").replaceChildren(...sentence`${inFolder(name)}`);
  $("preview-note").textContent =
    size > bytes ? `The first ${sizeInWords(bytes)} of ${sizeInWords(size)}.` : size ? sizeInWords(size) : "The file is empty.";
  $("preview-download").onclick = () => openFile(name, true);
  $("preview").showModal();
}

async function textOf(blob) {
  // `stream` leaves out a character that is cut at the end.
  const text = new TextDecoder().decode(await blob.arrayBuffer(), { stream: true });
  if (text.includes("\0")) throw new Failure("The file is not text; download it to open it");
  return text.replaceAll("\r\n", "\n");
}

const visible = (text) => text.replace(/[^\n\t]+/g, shown);

async function showText(blob) {
  return element("pre", {}, visible(await textOf(blob)));
}

async function showTable(blob, name) {
  const rows = records(await textOf(blob)).slice(0, ROWS);
  const cells = (row, kind) => row.slice(0, COLUMNS).map((text) => element(kind, kind === "th" ? { scope: "col" } : {}, visible(text)));
  const [head = [], ...body] = rows;
  return element(
    "table",
    { "aria-label": shown(name) },
    element("thead", {}, element("tr", {}, ...cells(head, "th"))),
    element("tbody", {}, ...body.map((row) => element("tr", {}, ...cells(row, "td")))),
  );
}

/** The records of a CSV text (RFC 4180). The separator is the one of these that the first line has most often. */
export function records(text) {
  const [line] = text.split("\n", 1);
  const often = (mark) => line.split(mark).length;
  const separator = [",", ";", "\t"].reduce((best, mark) => (often(mark) > often(best) ? mark : best));
  const found = [];
  let row = [];
  let field = "";
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const mark = text[at];
    if (quoted) {
      if (mark !== '"') field += mark;
      else if (text[at + 1] === '"') (field += '"'), at++;
      else quoted = false;
    } else if (mark === '"' && field === "") quoted = true;
    else if (mark === separator) row.push(field), (field = "");
    else if (mark === "\n") found.push([...row, field]), (row = []), (field = "");
    else field += mark;
  }
  return field || row.length ? [...found, [...row, field]] : found;
}

async function showPicture(blob, name) {
  let picture;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    throw new Failure("The browser cannot show this picture; download it to open it");
  }
  const scale = Math.min(1, WIDEST_PICTURE / picture.width);
  const [width, height] = [picture.width, picture.height].map((length) => Math.max(1, Math.round(length * scale)));
  const words = `${shown(name)}, ${number.format(picture.width)} × ${number.format(picture.height)} pixels`;
  const canvas = element("canvas", { width, height, role: "img", "aria-label": words });
  canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
  picture.close();
  return canvas;
}
