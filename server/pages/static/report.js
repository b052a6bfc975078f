// A report as a document: what it says first comes first, assumptions show their status, everything can be printed.

import { complain, get } from "/static/api.js";
import { byId, element, number, replace, state, words } from "/static/dom.js";

const [, kind, name] = location.pathname.split("/");
const address = `/v1/${kind}/${name}/report`;
const STATUSES = ["enforced", "checked", "assumed", "violated"];

function value(thing, depth) {
  if (thing === null) return element("span", { class: "quiet" }, "none");
  if (typeof thing === "number") return String(thing);
  if (typeof thing === "boolean") return thing ? "yes" : "no";
  if (typeof thing === "string") return STATUSES.includes(thing) ? state(thing) : thing;
  if (Array.isArray(thing)) return list(thing, depth);
  return fields(thing, depth);
}

function list(items, depth) {
  if (!items.length) return element("span", { class: "quiet" }, "none");
  return element("ul", {}, ...items.map((item) => element("li", {}, value(item, depth + 1))));
}

function fields(object, depth) {
  const pairs = Object.entries(object).flatMap(([key, item]) => [element("dt", {}, words(key)), element("dd", {}, value(item, depth + 1))]);
  return element("dl", {}, ...pairs);
}

function section(title, thing) {
  const id = `part-${title}`;
  return element("section", { "aria-labelledby": id }, element("h2", { id }, words(title)), value(thing, 0));
}

function statement(report) {
  const said = report.privacy || report.guarantee || report;
  if (said.epsilon === undefined) return null;
  const price = said.epsilon === null ? "No bound: epsilon is infinite."
    : `Epsilon ${number(said.epsilon, 5)} at delta ${said.delta} by the ${said.conversion} conversion`
      + (said.rho === null || said.rho === undefined ? "." : `; rho ${number(said.rho, 5)} (zCDP).`);
  return element("p", { class: "notice good" }, element("strong", {}, price));
}

function show(report) {
  const first = report.first_lines || report.privacy?.first_lines || [];
  const loud = first.map((line) => element("p", { class: /^(GUARANTEE|VIOLATED|NO )/.test(line) ? "notice bad" : "notice warn" }, line));
  const simple = Object.entries(report).filter(([key, item]) => key !== "first_lines" && (item === null || typeof item !== "object"));
  const parts = Object.entries(report).filter(([key, item]) => key !== "first_lines" && item !== null && typeof item === "object");
  const title = kind === "runs" ? `Privacy report of run ${name.slice(0, 12)}` : `Privacy report of population ${name}`;
  document.title = `Tutti: ${title}`;
  replace(byId("report"), element("h1", {}, title), ...loud, ...[statement(report)].filter(Boolean),
    ...(simple.length ? [fields(Object.fromEntries(simple), 0)] : []), ...parts.map(([key, item]) => section(key, item)));
  byId("report").setAttribute("aria-busy", "false");
}

byId("print").addEventListener("click", () => window.print());
byId("as-json").href = address;
byId("up").href = kind === "runs" ? `/runs/${name}` : "/";
byId("up").textContent = kind === "runs" ? "run" : name;
get(address).then(show).catch((error) => complain(byId("notice"), error));
