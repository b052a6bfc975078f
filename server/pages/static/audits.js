// Audits on the record: measured leakage beside the proven bound.

import { complain, pages } from "/static/api.js";
import { byId, element, replace, words } from "/static/dom.js";

const HIDDEN = new Set(["format", "kind", "population", "run"]);

function card(audit) {
  const pairs = Object.entries(audit.entry).filter(([key]) => !HIDDEN.has(key)).flatMap(([key, item]) => [
    element("dt", {}, words(key)),
    element("dd", {}, item !== null && typeof item === "object" ? element("pre", {}, JSON.stringify(item, null, 1)) : String(item))]);
  const run = audit.run ? element("a", { href: `/runs/${audit.run}`, class: "mono" }, audit.run.slice(0, 12)) : "no run";
  return element("article", { class: "panel" }, element("h2", {}, `Entry ${audit.index}, run `, run), element("dl", {}, ...pairs));
}

async function show() {
  const cards = [];
  for await (const items of pages("/v1/audits", 100)) cards.push(...items.map(card));
  const nothing = element("p", { class: "quiet" }, "No audit is on the record. `tutti audit TASK.yaml` makes one.");
  replace(byId("audits"), ...(cards.length ? cards.reverse() : [nothing]));
}

show().catch((error) => complain(byId("notice"), error));
