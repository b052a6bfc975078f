// The ledger: its entries, and a verification that runs in this page and trusts no sum of the server's.

import { complain, get, pages } from "/static/api.js";
import { byId, element, replace } from "/static/dom.js";
import { Tree, consistencyHolds, hex, inclusionHolds, leafHash, readCheckpoint, signatureHolds } from "/static/merkle.js";

const KINDS = ["run-registered", "round-charged", "round-outcome", "model-released", "parameter-tuned", "audit-recorded",
  "budget-set", "key-rotated", "approval", "secagg-transcript"];
const SEEN = "tutti-checkpoint";
const SAMPLES = 5;

function check(kind, text) {
  byId("checks").append(element("li", { class: kind }, text));
  return kind !== "bad";
}

async function verify() {
  replace(byId("checks"));
  const told = await get("/v1/ledger/checkpoint"), head = readCheckpoint(told.note);
  const signed = await signatureHolds(told.note, told.verifier_key);
  if (signed === null) check("warn", "This browser cannot check Ed25519 signatures; `tutti ledger verify` can.");
  else check(signed ? "good" : "bad", signed ? `The checkpoint is signed by ${head.origin}.` : "The signature of the checkpoint is false.");
  const tree = new Tree();
  for await (const entries of pages("/v1/ledger/entries")) {
    for (const entry of entries) {
      if (entry.index === tree.size && tree.size < head.size) tree.append(leafHash(entry.body));
    }
  }
  const same = tree.size === head.size && hex(tree.root()) === head.root;
  if (tree.size < head.size) check("warn", `Only ${tree.size} of ${head.size} entries may be read with this token; proofs still hold.`);
  else check(same ? "good" : "bad", same ? `All ${head.size} entries hash to the signed root ${head.root.slice(0, 16)}…`
    : "The entries do not hash to the signed root: some were changed, removed or reordered.");
  await proveSome(head);
  await compareWithBefore(head, told);
}

async function proveSome(head) {
  if (!head.size) return;
  const wanted = [...new Set(Array.from({ length: SAMPLES }, (_, place) => Math.floor((place * (head.size - 1)) / Math.max(1, SAMPLES - 1))))];
  const proofs = await Promise.all(wanted.map((index) => get(`/v1/ledger/proofs/inclusion?index=${index}&size=${head.size}`)));
  const good = proofs.every((proof) => proof.root_hash === head.root && inclusionHolds(proof));
  check(good ? "good" : "bad", `${good ? "Inclusion proofs hold" : "An inclusion proof is false"} (entries ${wanted.join(", ")}).`);
}

async function compareWithBefore(head, told) {
  const before = JSON.parse(localStorage.getItem(SEEN) || "null");
  let holds = true;
  if (!before || before.origin !== head.origin) check("warn", "This browser has no earlier checkpoint of this ledger; it keeps this one.");
  else if (before.size > head.size) holds = check("bad", `The ledger has shrunk: ${before.size} entries before, ${head.size} now.`);
  else if (before.size === 0) check("good", "The earlier checkpoint was of the empty ledger.");
  else {
    const proof = await get(`/v1/ledger/proofs/consistency?first=${before.size}&second=${head.size}`);
    holds = proof.first_root_hash === before.root && proof.second_root_hash === head.root && consistencyHolds(proof);
    check(holds ? "good" : "bad", holds ? `It extends the checkpoint of ${before.size} entries that this browser saw before.`
      : `It does not extend the checkpoint of ${before.size} entries that this browser saw before: history was changed.`);
  }
  if (holds) localStorage.setItem(SEEN, JSON.stringify({ ...head, note: told.note }));
}

function row(entry) {
  const run = entry.entry.run ? element("a", { href: `/runs/${entry.entry.run}`, class: "mono" }, entry.entry.run.slice(0, 8)) : "";
  const round = entry.entry.round === undefined ? "" : `round ${entry.entry.round}`;
  return element("details", {}, element("summary", {}, element("span", { class: "mono" }, entry.index), element("strong", {}, entry.kind),
    run, round, element("span", { class: "quiet mono" }, ` ${entry.leaf_hash.slice(0, 12)}`)),
  element("pre", { tabindex: "0" }, JSON.stringify(entry.entry, null, 1)));
}

async function show(cursor = null) {
  const query = new URLSearchParams({ limit: "50" });
  for (const name of ["kind", "population", "run"]) if (byId(name).value.trim()) query.set(name, byId(name).value.trim());
  if (cursor) query.set("cursor", cursor);
  const page = await get(`/v1/ledger/entries?${query}`);
  if (!cursor) replace(byId("entries"));
  byId("entries").append(...page.items.map(row));
  if (!byId("entries").children.length) byId("entries").append(element("p", { class: "quiet" }, "No entries."));
  byId("more").hidden = !page.next;
  byId("more").onclick = () => show(page.next).catch((error) => complain(byId("notice"), error));
}

byId("kind").append(...KINDS.map((kind) => element("option", {}, kind)));
byId("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  show().catch((error) => complain(byId("notice"), error));
});
byId("verify").addEventListener("click", async (event) => {
  event.target.disabled = true;
  await verify().catch((error) => check("bad", error.message));
  event.target.disabled = false;
});
show().catch((error) => complain(byId("notice"), error));
