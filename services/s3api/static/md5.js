/** MD5 (RFC 1321): S3 tells by its ETags what it holds, in this checksum, which no browser offers. */

const PIECE = 256 * 1024; // a whole number of blocks of 64 bytes, and little memory
const SINES = Int32Array.from({ length: 64 }, (_, step) => Math.floor(2 ** 32 * Math.abs(Math.sin(step + 1))));
const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];

/** Go on from the state with whole blocks of 16 words. Plain variables: destructuring costs several times as much. */
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

/** The MD5 of a blob as 16 bytes, read a little at a time. */
export async function md5(blob, signal) {
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for (let start = 0; ; start += PIECE) {
    signal?.throwIfAborted();
    const data = await blob.slice(start, start + PIECE).arrayBuffer();
    if (data.byteLength === PIECE) {
      absorb(state, new Int32Array(data));
      continue;
    }
    // The end: a bit, zeros, and the length in bits.
    const last = new Uint8Array(64 * Math.ceil((data.byteLength + 9) / 64));
    last.set(new Uint8Array(data));
    last[data.byteLength] = 0x80;
    new DataView(last.buffer).setBigUint64(last.length - 8, 8n * BigInt(blob.size), true);
    absorb(state, new Int32Array(last.buffer));
    return new Uint8Array(state.buffer);
  }
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
