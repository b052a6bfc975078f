// Audits: ask for one, watch it, and what is on the record: measured leakage beside the proven bound.

import { complain, events, get, pages, send } from "/static/api.js";
import { byId, element, number, price, replace, state, table, words } from "/static/dom.js";

const HIDDEN = new Set(["format", "kind", "population", "run"]);
const OVER = new Set(["done", "failed", "cancelled"]);
const DEFAULT_AUDIT = {
  task: {
    name: "demo-words", population: "demo-audit", model: { name: "next_word_small" }, data: { source: "synthetic", devices: 200 },
    cohort: { report_goal: 40, over_selection: 1.3 },
    training: { batch_size: 16, max_examples: 64, learning_rate: 0.5 },
    privacy: { mechanism: "tree", clip_norm: 0.3, noise_multiplier: 4.0, delta: 1e-5 },
    rounds: 4,
  },
  canaries: { devices: [1, 4], copies: [1, 14], per_cell: 2, per_device: 32 },
  references: 5000,
  treatments: [{ name: "z4" }],
};

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
  const proven = bound && bound.epsilon !== null && bound.epsilon !== undefined;
  const verdict = element("span", { class: `state ${passed ? (proven ? "checked" : "") : "violated"}` },
    !passed ? "above the bound" : proven ? "within the bound" : "nothing is proven");
  return element("article", { class: "panel" }, element("h3", {}, "Run ", run, " ", verdict),
    element("div", { class: "charts" }, element("div", {}, element("h4", {}, "Measured"), value(measured ?? null)),
      element("div", {}, element("h4", {}, "Proven"), value(bound ?? null))),
    fields([["ledger entry", audit.index], ...Object.entries(others).filter(([key]) => !HIDDEN.has(key))]));
}

function progress(job) {
  if (!job.progress || OVER.has(job.state)) return null;
  const { stage, arm, done, total } = job.progress;
  const fill = element("div");
  fill.style.width = `${100 * done / Math.max(1, total)}%`;
  return element("div", {},
    element("p", {}, `${words(stage)} ${arm}: ${done} of ${total} ${stage === "training" ? "rounds" : "references"}`),
    element("div", { class: "meter", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": done,
      "aria-label": `${words(stage)} ${arm}` }, fill));
}

function actions(job, target) {
  const verbs = [...(job.state === "awaiting-approval" ? [["Approve", "approve", "quiet"]] : []),
    ...(job.state === "failed" ? [["Resume", "resume", "quiet"]] : []),
    ...(["done", "cancelled"].includes(job.state) ? [] : [["Cancel", "cancel", "danger"]])];
  return verbs.length ? element("div", { class: "row" }, ...verbs.map(([title, verb, kind]) =>
    element("button", { type: "button", class: kind, onclick: async (event) => {
      event.target.disabled = true;
      try {
        follow(await send("POST", `/v1/audits/${job.audit}:${verb}`), target);
      } catch (error) {
        complain(byId("notice"), error);
        event.target.disabled = false;
      }
    } }, title))) : null;
}

function arms(result) {
  const columns = [
    { title: "Arm", cell: (arm) => element("a", { href: `/runs/${arm.run}` }, arm.name) },
    { title: "Epsilon proven", class: "number", cell: (arm) => price(arm.privacy.epsilon) },
    { title: "Median rank", class: "number", cell: (arm) => number(arm.grid.median_rank) },
    { title: "Held out", class: "number", cell: (arm) => number(arm.grid.median_rank_held_out) },
    { title: "Exposure, bits", class: "number", cell: (arm) => number(arm.grid.mean_exposure_bits) },
    { title: "Rank against control", class: "number", cell: (arm) => arm.grid.rank_ratio === null ? "–"
      : `${number(arm.grid.rank_ratio.ratio)} (${number(arm.grid.rank_ratio.low)} to ${number(arm.grid.rank_ratio.high)})` },
    { title: "Median exposure by cell (devices x copies), bits", class: "wrap", cell: (arm) =>
      arm.grid.cells.map((cell) => `${cell.devices}x${cell.copies}: ${number(cell.extrapolated_bits, 3)}`).join(", ") },
  ];
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Arms" },
    table("Control and treatments: a higher rank means less was memorised", columns, result.arms));
}

function drawJob(job, result, target) {
  const verdict = job.verdict === null ? null
    : element("span", { class: `state ${job.verdict === "failed" ? "violated" : "checked"}` }, job.verdict);
  replace(target, element("h3", {}, `${job.name} `, state(job.state), " ", verdict),
    element("p", { class: "quiet" }, `Population ${job.population}, asked for ${job.started.replace("T", " ").slice(0, 16)}, audit `,
      element("span", { class: "mono" }, job.audit.slice(0, 12))),
    ...(job.problem ? [element("p", { class: "notice bad" }, `${job.problem}: ${job.detail || ""}`)] : []),
    ...[progress(job), result ? arms(result) : null, actions(job, target)].filter(Boolean));
}

async function follow(job, target) {
  drawJob(job, null, target);
  if (!OVER.has(job.state)) {
    for await (const event of events(`/v1/audits/${job.audit}/events`)) {
      job = JSON.parse(event.data);
      drawJob(job, null, target);
    }
    if (job.state === "done") await showEntries();
  }
  if (job.state === "done") drawJob(job, (await get(`/v1/audits/${job.audit}`)).result, target);
}

async function showJobs() {
  const found = (await get("/v1/audits/jobs?limit=20")).items;
  const targets = found.map(() => element("article", { class: "panel" }));
  replace(byId("jobs"), ...(targets.length ? targets : [element("p", { class: "quiet" }, "None was asked for here.")]));
  await Promise.all(found.map((job, place) => follow(job, targets[place])));
}

async function showEntries() {
  const cards = [];
  for await (const items of pages("/v1/audits", 100)) cards.push(...items.map(card));
  const nothing = element("p", { class: "quiet" }, "No audit is on the record. The form above or `tutti audit TASK.yaml` makes one.");
  replace(byId("audits"), ...(cards.length ? cards.reverse() : [nothing]));
}

async function launch(event) {
  event.preventDefault();
  byId("start").disabled = true;
  try {
    const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    await send("POST", "/v1/audits", { audit: JSON.parse(byId("audit").value) }, { "Idempotency-Key": key });
    replace(byId("answer"));
    showJobs().catch((error) => complain(byId("notice"), error));
  } catch (error) {
    complain(byId("answer"), error);
  } finally {
    byId("start").disabled = false;
  }
}

byId("audit").value = JSON.stringify(DEFAULT_AUDIT, null, 2);
byId("launch").addEventListener("submit", launch);
showEntries().then(showJobs).catch((error) => complain(byId("notice"), error));
