// Audits on the record: measured leakage beside the proven bound.

import { complain, pages } from "/static/api.js";
import { byId, element, replace, words } from "/static/dom.js";

const HIDDEN = new Set(["format", "kind", "population", "run"]);

function value(item) {
  if (item === null) return element("span", { class: "quiet" }, "none");
  if (Array.isArray(item)) return element("ul", {}, ...item.map((one) => element("li", {}, value(one))));
  return typeof item === "object" ? fields(Object.entries(item)) : String(item);
}

function fields(entries) {
  return element("dl", {}, ...entries.flatMap(([key, item]) => [element("dt", {}, words(key)), element("dd", {}, value(item))]));
}

function card(audit) {
  const { measured, bound, passed, ...others } = audit.entry;
  const run = audit.run ? element("a", { href: `/runs/${audit.run}`, class: "mono" }, audit.run.slice(0, 12)) : "no run";
  const verdict = element("span", { class: `state ${passed ? "checked" : "violated"}` }, passed ? "within the bound" : "above the bound");
  return element("article", { class: "panel" }, element("h2", {}, "Run ", run, " ", verdict),
    element("div", { class: "charts" }, element("div", {}, element("h3", {}, "Measured"), value(measured ?? null)),
      element("div", {}, element("h3", {}, "Proven"), value(bound ?? null))),
    fields([["ledger entry", audit.index], ...Object.entries(others).filter(([key]) => !HIDDEN.has(key))]));
}

async function show() {
  const cards = [];
  for await (const items of pages("/v1/audits", 100)) cards.push(...items.map(card));
  const nothing = element("p", { class: "quiet" }, "No audit is on the record. `tutti audit TASK.yaml` makes one.");
  replace(byId("audits"), ...(cards.length ? cards.reverse() : [nothing]));
}

show().catch((error) => complain(byId("notice"), error));
