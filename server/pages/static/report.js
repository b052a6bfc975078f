// A report as a document: what it says first comes first, assumptions show their status, everything can be printed.

import { complain, get } from "/static/api.js";
import { byId, element, number, price, replace, state, table, words } from "/static/dom.js";

const [, kind, name] = location.pathname.split("/");
const address = `/v1/${kind}/${name}/report`;
const STATUSES = ["enforced", "checked", "assumed", "violated"];

const AS_DATA = new Set(["task", "event", "planned_event", "measured"]);

function value(thing, key = "") {
  if (thing === null) return element("span", { class: "quiet" }, "none");
  if (typeof thing === "boolean") return thing ? "yes" : "no";
  if (typeof thing === "string") return text(thing);
  if (typeof thing !== "object") return String(thing);
  if (Array.isArray(thing)) return list(thing);
  return AS_DATA.has(key) ? data(thing) : fields(thing);
}

function text(thing) {
  if (STATUSES.includes(thing)) return state(thing);
  return thing.includes("\n") ? element("pre", {}, thing) : thing;
}

function data(thing) {
  return element("details", {}, element("summary", {}, "as data"), element("pre", {}, JSON.stringify(thing, null, 1)));
}

function list(items) {
  if (!items.length) return element("span", { class: "quiet" }, "none");
  const simple = items.every((item) => item !== null && typeof item === "object" && !Array.isArray(item) && !item.guarantee);
  return simple ? rows(items) : element("ul", {}, ...items.map((item) => element("li", {}, value(item))));
}

function rows(items) {
  const names = [...new Set(items.flatMap(Object.keys))];
  const columns = names.map((name) => ({ title: words(name), class: "wrap", cell: (item) => value(item[name] ?? null, name) }));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, table(`${items.length} in all`, columns, items));
}

function fields(object) {
  const pairs = Object.entries(object).flatMap(([key, item]) => [element("dt", {}, words(key)), element("dd", {}, value(item, key))]);
  return element("dl", {}, ...pairs);
}

function section(title, thing) {
  const id = `part-${title}`;
  return element("section", { "aria-labelledby": id }, element("h2", { id }, words(title)), value(thing, title));
}

function statement(report) {
  const said = report.guarantee || report.joint || {};
  if (said.epsilon === undefined) return null;
  if (said.epsilon === null) return element("p", { class: "notice bad" }, element("strong", {}, "No bound: epsilon is infinite."));
  const rho = said.rho === null || said.rho === undefined ? "" : `; rho ${price(said.rho, 5)} (zCDP)`;
  const by = said.conversion ? ` by the ${said.conversion} conversion` : "";
  return element("p", { class: "notice good" }, element("strong", {}, `Epsilon ${price(said.epsilon, 5)} at delta ${number(said.delta)}${by}${rho}.`));
}

function show(report) {
  const loud = (report.first_lines || []).map((line) =>
    element("p", { class: /GUARANTEE VOID|VIOLATED|NO GUARANTEE|WEAK DELTA|FAILED/.test(line) ? "notice bad" : "notice warn" }, line));
  const parts = Object.entries(report).filter(([key, item]) => key !== "first_lines" && item !== null && typeof item === "object");
  const subject = report.subject || {};
  const title = kind === "runs" ? `Privacy report: ${subject.task || "run"} ${(subject.run || name).slice(0, 12)}` : `Privacy report: population ${name}`;
  document.title = `Tutti: ${title}`;
  replace(byId("report"), element("h1", {}, title), ...loud, ...[statement(report)].filter(Boolean),
    ...parts.map(([key, item]) => section(key, item)));
  byId("report").setAttribute("aria-busy", "false");
}

byId("print").addEventListener("click", () => window.print());
byId("as-json").href = address;
byId("up").href = kind === "runs" ? `/runs/${name}` : "/";
byId("up").textContent = kind === "runs" ? "run" : name;
get(address).then(show).catch((error) => complain(byId("notice"), error));
