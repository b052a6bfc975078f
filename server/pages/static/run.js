// One run, live: what it has learned, what it has spent, where its devices left, and what may be done to it.

import { complain, events, get, pages, send } from "/static/api.js";
import { Chart } from "/static/charts.js";
import { byId, element, notice, number, price, replace, state, table } from "/static/dom.js";

const name = location.pathname.split("/")[2];
const rows = [];
let charts = [];

function facts(row) {
  return { ...row.facts, ...row };
}

function makeCharts() {
  const parent = byId("charts");
  charts = [
    new Chart(parent, "Accuracy", [{ label: "held out", of: (row) => row.held_out_accuracy },
      { label: "devices' own", of: (row) => row.accuracy }], { percent: true }),
    new Chart(parent, "Loss", [{ label: "held out", of: (row) => row.held_out_loss }, { label: "devices' own", of: (row) => row.loss }]),
    new Chart(parent, "Epsilon so far", [{ label: "epsilon", of: (row) => row.epsilon }], { cost: true }),
    new Chart(parent, "Rho so far", [{ label: "rho", of: (row) => row.rho }], { cost: true }),
    new Chart(parent, "Contributions a round", [{ label: "reported", of: (row) => row.reported }]),
    new Chart(parent, "Round time by phase, seconds", [{ label: "selection", of: (row) => row.selection_s },
      { label: "training and reporting", of: (row) => row.virtual_s }]),
    new Chart(parent, "Norm of the update", [{ label: "L2 norm", of: (row) => row.update_norm }]),
  ];
}

function showHead(run) {
  byId("title").replaceChildren(`${run.task} `, state(run.job?.state === "awaiting-approval" ? "awaiting-approval" : run.state));
  document.title = `Tutti: ${run.task} ${run.run.slice(0, 8)}`;
  const privacy = run.privacy;
  replace(byId("first-lines"), ...privacy.first_lines.map((line) =>
    element("p", { class: /GUARANTEE VOID|VIOLATED|NO GUARANTEE/.test(line) ? "notice bad" : "notice warn" }, line)));
  const worst = privacy.open_round === null ? "" : `, round ${privacy.open_round} at its worst case until it ends`;
  const epsilon = privacy.epsilon === null ? ["unbounded", ""] : [price(privacy.epsilon), `at delta ${number(privacy.delta)}, ${privacy.conversion}${worst}`];
  replace(byId("tiles"),
    tile("Rounds", `${run.rounds} / ${run.planned}`, `${run.abandoned} abandoned`),
    tile("Epsilon spent", ...epsilon),
    tile("Rho", price(privacy.rho), privacy.mechanism),
    tile("Unit", privacy.unit, `${privacy.adjacency} adjacency`),
    tile("Tier", privacy.tier.split(" (")[0], privacy.tier.split(" (")[1]?.replace(")", "") || ""),
    tile("Population", run.population, `run ${run.run.slice(0, 12)}`));
  showActions(run);
}

function tile(title, value, small) {
  return element("dl", { class: "tile" }, element("dt", {}, title), element("dd", {}, value, element("small", {}, small)));
}

function showActions(run) {
  const over = ["completed", "cancelled"].includes(run.state);
  const waiting = run.job?.state === "awaiting-approval";
  const stuck = run.state === "paused" || run.state === "failed" || run.job?.state === "failed";
  replace(byId("actions"),
    element("a", { href: `/runs/${run.run}/report` }, "Privacy report"),
    ...(waiting ? [action("Approve the start", "approve", { what: "start" })] : []),
    ...(!over && run.state === "running" && !waiting ? [action("Pause", "pause")] : []),
    ...(!over && run.job && stuck ? [action("Resume", "resume")] : []),
    ...(!over ? [action("Cancel", "cancel", undefined, "danger")] : []));
  if (run.job?.problem) notice(byId("notice"), "bad", `${run.job.problem}: ${run.job.detail || ""}`);
}

function action(title, verb, body, kind = "quiet") {
  return element("button", { type: "button", class: kind, onclick: async (event) => {
    event.target.disabled = true;
    try {
      await send("POST", `/v1/runs/${name}:${verb}`, body);
      await refresh();
      if (verb === "resume" || verb === "approve") follow();
    } catch (error) {
      complain(byId("notice"), error);
      event.target.disabled = false;
    }
  } }, title);
}

function showRounds() {
  for (const chart of charts) chart.set(rows.filter((row) => row.state === "committed"));
  const columns = [
    { title: "Round", class: "number", cell: (row) => row.round },
    { title: "State", cell: (row) => element("span", {}, state(row.state), row.reason ? ` ${row.reason}` : "") },
    { title: "Devices", class: "number", cell: (row) => row.reported },
    { title: "Loss", class: "number", cell: (row) => number(row.loss) },
    { title: "Epsilon", class: "number", cell: (row) => price(row.epsilon) },
    { title: "Entries", cell: (row) => [row.charge_entry, row.outcome_entry].filter((entry) => entry !== null && entry !== undefined).join(", ") },
  ];
  const newest = rows.slice(-200).reverse();
  replace(byId("rounds"), rows.length ? table(`${rows.length} rounds, the newest ${newest.length} first`, columns, newest)
    : element("p", { class: "quiet" }, "No round is on the record yet."));
}

async function showShapes() {
  const { shapes, reasons } = await get(`/v1/runs/${name}/sessions`);
  const pairs = Object.entries(shapes), most = Math.max(1, ...Object.values(shapes)), all = Object.values(shapes).reduce((a, b) => a + b, 0);
  const columns = [
    { title: "Shape", cell: ([shape]) => element("code", {}, shape) },
    { title: "Sessions", class: "number", cell: ([, count]) => count },
    { title: "Share", class: "number", cell: ([, count]) => `${number((100 * count) / all, 3)}%` },
    { title: "", cell: ([, count]) => bar(count / most) },
    { title: "Why", cell: ([shape]) => Object.entries(reasons[shape] || {}).map(([reason, count]) => `${reason} ${count}`).join(", ") },
  ];
  replace(byId("shapes"), pairs.length ? table(`${all} sessions`, columns, pairs) : element("p", { class: "quiet" }, "None recorded."));
}

function bar(share) {
  const made = element("span", { class: "bar", "aria-hidden": "true" });
  made.style.width = `${Math.max(0.1, 10 * share)}rem`;
  return made;
}

async function readRounds() {
  rows.length = 0;
  for await (const items of pages(`/v1/runs/${name}/rounds`)) {
    rows.push(...items.map(facts));
  }
  showRounds();
}

async function refresh() {
  showHead(await get(`/v1/runs/${name}`));
  await Promise.all([readRounds(), showShapes()]);
}

let following = null;

async function follow() {
  following?.abort();
  following = new AbortController();
  const seen = new Set(rows.map((row) => row.round));
  let pending = null;
  try {
    for await (const event of events(`/v1/runs/${name}/events`, following.signal)) {
      if (event.event === "end") break;
      const fresh = event.event === "state" || !seen.has(JSON.parse(event.data).round);
      if (event.event === "round") seen.add(JSON.parse(event.data).round);
      if (fresh) pending ??= setTimeout(() => { pending = null; refresh().catch((error) => complain(byId("notice"), error)); }, 700);
    }
    clearTimeout(pending);
    await refresh();
  } catch (error) {
    if (error.name !== "AbortError") complain(byId("notice"), error);
  }
}

window.addEventListener("pagehide", () => following?.abort());
makeCharts();
refresh().then(follow).catch((error) => complain(byId("notice"), error));
