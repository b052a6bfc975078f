// Makes elements. Text is only ever set as text, so nothing that a server or a task says is read as HTML.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map(asNode));
  return made;
}

function asNode(child) {
  return child instanceof Node ? child : String(child);
}

export function byId(id) {
  return document.getElementById(id);
}

export function replace(target, ...children) {
  target.replaceChildren(...children);
}

export function table(caption, columns, rows) {
  const head = element("tr", {}, ...columns.map((column) => element("th", { scope: "col", class: column.class }, column.title)));
  const body = rows.map((row) =>
    element("tr", {}, ...columns.map((column) => element("td", { class: column.class, "data-title": column.title }, column.cell(row)))));
  return element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
}

export function state(name) {
  return element("span", { class: `state ${name}` }, name);
}

export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3 ? Number(value.toPrecision(digits)).toExponential() : String(Number(value.toPrecision(digits)));
}

// What something costs is shown rounded up, never to the nearest.
export function price(value, digits = 4) {
  if (!Number.isFinite(value) || Number.isInteger(value)) return number(value, digits);
  const step = 10 ** (digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return number(Math.ceil(value * step) / step, digits);
}

export function notice(target, kind, ...content) {
  replace(target, element("p", { class: `notice ${kind}` }, ...content));
}

export function words(name) {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
