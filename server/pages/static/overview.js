// The overview: populations with their budgets, runs, and a form that prices and launches a task.

import { complain, get, send } from "/static/api.js";
import { byId, element, notice, number, price, replace, state, table } from "/static/dom.js";

const DEFAULT_TASK = {
  name: "demo", population: "demo-mlp", model: { name: "mlp" }, data: { source: "synthetic", devices: 400 },
  cohort: { report_goal: 20, over_selection: 1.3, minimum_reports: 16, minimum_separation: 4 },
  training: { batch_size: 10, epochs: 1, max_examples: 20, learning_rate: 0.1 },
  server: { optimizer: "sgd", learning_rate: 1.0, momentum: 0.9 },
  privacy: { mechanism: "tree", clip_norm: 0.5, noise_multiplier: 3.0, delta: 1e-5 },
  rounds: 10,
};

async function showPopulations() {
  const found = (await get("/v1/populations")).items;
  const budgets = await Promise.all(found.map((one) => get(`/v1/populations/${one.population}/budget`)));
  const cards = found.map((one, place) => card(one, budgets[place]));
  replace(byId("populations"), ...(cards.length ? cards : [element("p", { class: "quiet" }, "None yet: launch a run below.")]));
}

function card(population, budget) {
  const spent = budget.spent_epsilon === null ? "unbounded" : `epsilon ${price(budget.spent_epsilon)}`;
  const at = budget.delta === null ? "" : ` at delta ${number(budget.delta)}`;
  const limit = budget.budget_epsilon === null ? "no budget set" : `of ${number(budget.budget_epsilon)}`;
  return element("div", { class: "panel" },
    element("h3", {}, population.population),
    meter(budget),
    element("p", {}, `Spent: ${spent}${at}, ${limit}`),
    element("p", { class: "quiet" }, `${population.runs} ${population.runs === 1 ? "run" : "runs"}, ${population.running} going on`
      + (population.approval_required ? "; starts and releases need an approval" : "")),
    element("p", {}, element("a", { href: `/populations/${population.population}/report` }, "Report")));
}

function meter(budget) {
  if (budget.budget_epsilon === null || budget.spent_epsilon === null) return null;
  const share = Math.min(1, budget.spent_epsilon / budget.budget_epsilon);
  const fill = element("div");
  fill.style.width = `${100 * share}%`;
  return element("div", { class: share >= 0.9 ? "meter full" : "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(100 * share), "aria-label": "Budget spent, per cent" }, fill);
}

const runs = [];

async function showRuns(cursor = null) {
  const page = await get(`/v1/runs?limit=20${cursor ? `&cursor=${cursor}` : ""}`);
  runs.push(...page.items);
  const columns = [
    { title: "Run", cell: (run) => element("a", { href: `/runs/${run.run}`, class: "mono" }, run.run.slice(0, 12)) },
    { title: "Task", cell: (run) => run.task },
    { title: "State", cell: (run) => state(run.job?.state === "awaiting-approval" ? "awaiting-approval" : run.state) },
    { title: "Rounds", class: "number", cell: (run) => `${run.rounds}/${run.planned}` },
    { title: "Population", cell: (run) => run.population },
    { title: "Started", cell: (run) => run.started.replace("T", " ").slice(0, 16) },
    { title: "", cell: (run) => element("a", { href: `/runs/${run.run}/report`, "aria-label": `Report of ${run.task}` }, "report") },
  ];
  replace(byId("runs"), runs.length ? table("The newest first", columns, runs) : element("p", { class: "quiet" }, "No runs yet."));
  byId("more").hidden = !page.next;
  byId("more").onclick = () => showRuns(page.next).catch((error) => complain(byId("notice"), error));
}

function task() {
  return JSON.parse(byId("task").value);
}

async function askCost() {
  const cost = await send("POST", "/v1/cost", { task: task() });
  const told = cost.epsilon === null ? "no bound: epsilon is infinite"
    : `at most epsilon ${price(cost.epsilon)} at delta ${number(cost.delta)} (${cost.conversion}), rho ${price(cost.rho)}`;
  notice(byId("answer"), "good", `${cost.rounds} rounds of ${cost.mechanism} would cost ${told}; unit ${cost.unit}, ${cost.adjacency}.`);
}

async function launch() {
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const run = await send("POST", "/v1/runs", { task: task() }, { "Idempotency-Key": key });
  location.href = `/runs/${run.run}`;
}

function guarded(action) {
  return async (event) => {
    event.preventDefault();
    byId("start").disabled = true;
    try {
      await action();
    } catch (error) {
      complain(byId("answer"), error);
    } finally {
      byId("start").disabled = false;
    }
  };
}

byId("task").value = JSON.stringify(DEFAULT_TASK, null, 2);
byId("ask-cost").addEventListener("click", guarded(askCost));
byId("launch").addEventListener("submit", guarded(launch));
Promise.all([showPopulations(), showRuns()]).catch((error) => complain(byId("notice"), error));
