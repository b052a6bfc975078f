// RFC 9162 trees and C2SP checkpoints, checked in the page. SHA-256 is written out here because browsers offer theirs to secure origins only.

const K = new Uint32Array(64);
const START = new Uint32Array(8);

function fraction(x) {
  return ((x - Math.floor(x)) * 0x100000000) | 0;
}

// The constants are the first 32 bits of the fractional parts of square and cube roots of primes (FIPS 180-4, sections 4.2.2 and 5.3.3).
for (let candidate = 2, found = 0; found < 64; candidate++) {
  let prime = true;
  for (let factor = 2; factor * factor <= candidate; factor++) if (candidate % factor === 0) prime = false;
  if (!prime) continue;
  if (found < 8) START[found] = fraction(Math.sqrt(candidate));
  K[found++] = fraction(Math.cbrt(candidate));
}

const turn = (x, by) => (x >>> by) | (x << (32 - by));

export function sha256(bytes) {
  const length = ((bytes.length + 72) >>> 6) << 6;
  const padded = new Uint8Array(length);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(length - 8, Math.floor(bytes.length / 0x20000000));
  view.setUint32(length - 4, bytes.length << 3);
  const state = START.slice(), words = new Uint32Array(64);
  for (let block = 0; block < length; block += 64) {
    for (let i = 0; i < 16; i++) words[i] = view.getUint32(block + 4 * i);
    for (let i = 16; i < 64; i++) {
      const a = words[i - 15], b = words[i - 2];
      words[i] = words[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + words[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + words[i]) | 0;
      const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, place) => { state[place] += word; });
  }
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((word, place) => out.setUint32(4 * place, word));
  return new Uint8Array(out.buffer);
}

function joined(...parts) {
  const out = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) { out.set(part, at); at += part.length; }
  return out;
}

export const leafHash = (text) => sha256(joined([0], new TextEncoder().encode(text)));
export const nodeHash = (left, right) => sha256(joined([1], left, right));
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const unhex = (text) => Uint8Array.from(text.match(/../g) || [], (pair) => parseInt(pair, 16));
const unbase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

export class Tree {
  constructor() { this.size = 0; this.peaks = []; }

  append(leaf) {
    let node = leaf;
    for (let size = this.size; size & 1; size = Math.floor(size / 2)) node = nodeHash(this.peaks.pop(), node);
    this.peaks.push(node);
    this.size += 1;
  }

  root() {
    if (!this.size) return sha256(new Uint8Array());
    return this.peaks.reduceRight((right, left) => nodeHash(left, right));
  }
}

// RFC 9162, section 2.1.3.2.
export function inclusionHolds({ index, size, leaf_hash, root_hash, path }) {
  if (index >= size) return false;
  let place = index, last = size - 1, node = unhex(leaf_hash);
  for (const step of path) {
    if (last === 0) return false;
    if (place % 2 === 1 || place === last) {
      node = nodeHash(unhex(step), node);
      while (place % 2 === 0 && place !== 0) { place = Math.floor(place / 2); last = Math.floor(last / 2); }
    } else node = nodeHash(node, unhex(step));
    place = Math.floor(place / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && hex(node) === root_hash;
}

// RFC 9162, section 2.1.4.2.
export function consistencyHolds({ first, second, first_root_hash, second_root_hash, path }) {
  if (first === second) return !path.length && first_root_hash === second_root_hash;
  if (first < 1 || first > second || !path.length) return false;
  const steps = path.map(unhex);
  if (Number.isInteger(Math.log2(first))) steps.unshift(unhex(first_root_hash));
  let place = first - 1, last = second - 1;
  while (place % 2 === 1) { place = (place - 1) / 2; last = Math.floor(last / 2); }
  let old = steps[0], fresh = steps[0];
  for (const step of steps.slice(1)) {
    if (last === 0) return false;
    if (place % 2 === 1 || place === last) {
      old = nodeHash(step, old);
      fresh = nodeHash(step, fresh);
      while (place % 2 === 0 && place !== 0) { place = Math.floor(place / 2); last = Math.floor(last / 2); }
    } else fresh = nodeHash(fresh, step);
    place = Math.floor(place / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && hex(old) === first_root_hash && hex(fresh) === second_root_hash;
}

export function readCheckpoint(note) {
  const [origin, size, root] = note.split("\n");
  return { origin, size: Number(size), root: hex(unbase64(root)) };
}

// true, false, or null where this browser has no Ed25519.
export async function signatureHolds(note, verifierKey) {
  const end = note.indexOf("\n\n");
  // NAME+ID+DATA, where the base64 of DATA may have plus signs of its own.
  const text = note.slice(0, end + 1), [name, id] = verifierKey.split("+"), data = verifierKey.slice(name.length + id.length + 2);
  const line = note.slice(end + 2).split("\n").find((one) => one.startsWith(`\u2014 ${name} `));
  if (!line || !globalThis.crypto?.subtle) return line ? null : false;
  const keyBytes = unbase64(data).slice(1), signature = unbase64(line.split(" ")[2]).slice(4);
  try {
    const key = await crypto.subtle.importKey("raw", keyBytes, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, signature, new TextEncoder().encode(text));
  } catch (error) {
    if (error.name === "NotSupportedError") return null;
    throw error;
  }
}
