/** MD5 (RFC 1321). S3's ETags are MD5 checksums, and browsers cannot compute them. */

const PIECE = 64 * 1024; // a whole number of blocks
const SINES = Int32Array.from({ length: 64 }, (_, step) => Math.floor(2 ** 32 * Math.abs(Math.sin(step + 1))));
const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];

/** Update the state with blocks of 16 words. It uses plain variables because destructuring is several times slower. */
function absorb(state, words) {
  let a = state[0], b = state[1], c = state[2], d = state[3];
  for (let block = 0; block < words.length; block += 16) {
    const a0 = a, b0 = b, c0 = c, d0 = d;
    for (let step = 0; step < 64; step++) {
      let mixed, word;
      if (step < 16) {
        mixed = d ^ (b & (c ^ d));
        word = step;
      } else if (step < 32) {
        mixed = c ^ (d & (b ^ c));
        word = (5 * step + 1) & 15;
      } else if (step < 48) {
        mixed = b ^ c ^ d;
        word = (3 * step + 5) & 15;
      } else {
        mixed = c ^ (b | ~d);
        word = (7 * step) & 15;
      }
      const sum = (a + mixed + SINES[step] + words[block + word]) | 0;
      const shift = SHIFTS[((step >> 4) << 2) | (step & 3)];
      a = d;
      d = c;
      c = b;
      b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
    }
    a = (a + a0) | 0;
    b = (b + b0) | 0;
    c = (c + c0) | 0;
    d = (d + d0) | 0;
  }
  state[0] = a;
  state[1] = b;
  state[2] = c;
  state[3] = d;
}

/** Computes the MD5s of a blob's ranges, 16 bytes each, one range at a time, and reads the blob in small pieces.
 *
 * Consecutive ranges are read from one stream into the same memory. Browsers free streams late, so one stream for
 * each range would use more and more memory.
 */
export class Md5s {
  #blob;
  #reader = null;
  #at = 0; // the position of the reader
  #buffer = new ArrayBuffer(PIECE);
  #last = Promise.resolve();

  constructor(blob) {
    this.#blob = blob;
  }

  of(start, end, signal) {
    const digest = this.#last.then(() => this.#digest(start, end, signal));
    this.#last = digest.catch(() => this.#close());
    return digest;
  }

  async #digest(start, end, signal) {
    if (this.#at !== start) this.#close();
    this.#at = start;
    const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
    for (let left = end - start; ; left -= PIECE) {
      signal?.throwIfAborted();
      const held = Math.min(left, PIECE);
      await this.#fill(held);
      if (held === PIECE) {
        absorb(state, new Int32Array(this.#buffer));
        continue;
      }
      // The padding: one bit, zeros, and the length in bits.
      const last = new Uint8Array(64 * Math.ceil((held + 9) / 64));
      last.set(new Uint8Array(this.#buffer, 0, held));
      last[held] = 0x80;
      new DataView(last.buffer).setBigUint64(last.length - 8, 8n * BigInt(end - start), true);
      absorb(state, new Int32Array(last.buffer));
      if (end === this.#blob.size) this.#close();
      return new Uint8Array(state.buffer);
    }
  }

  /** Read the next bytes to the beginning of the buffer. */
  async #fill(length) {
    for (let held = 0; held < length; ) {
      this.#reader ??= this.#open();
      if (!this.#reader) {
        const data = await this.#blob.slice(this.#at, this.#at + length).arrayBuffer();
        new Uint8Array(this.#buffer).set(new Uint8Array(data));
        this.#at += length;
        return;
      }
      const { value, done } = await this.#reader.read(new Uint8Array(this.#buffer, held, length - held));
      this.#buffer = value.buffer;
      if (done) throw new DOMException("The file has become shorter", "NotReadableError");
      held += value.length;
      this.#at += value.length;
    }
  }

  /** A reader that fills memory that it is given (BYOB); false where the browser has none. */
  #open() {
    try {
      return this.#blob.slice(this.#at).stream().getReader({ mode: "byob" });
    } catch {
      return false;
    }
  }

  #close() {
    this.#reader?.cancel?.().catch(() => {});
    this.#reader = null;
    if (!this.#buffer.byteLength) this.#buffer = new ArrayBuffer(PIECE); // a failed read has kept the buffer
  }
}

export const md5 = (blob) => new Md5s(blob).of(0, blob.size);
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
