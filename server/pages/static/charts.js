// Line charts by uPlot (served from here), sized to their box, with colours from the style sheet.

import { element, number, price } from "/static/dom.js";

const COLORS = ["#0b8f7a", "#c2571a", "#5b6fd6", "#a13d8b"];

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Chart {
  constructor(parent, title, series, { percent = false, cost = false } = {}) {
    this.series = series;
    this.box = element("div");
    this.figure = element("figure", { class: "chart", role: "img", "aria-label": title }, element("figcaption", {}, title), this.box);
    parent.append(this.figure);
    const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), width: 1 } };
    const show = (plot, value) => (value === null || value === undefined ? "–" : percent ? `${number(100 * value, 3)}%` : cost ? price(value) : number(value));
    this.title = title;
    this.show = show;
    this.plot = new uPlot({
      width: this.width(), height: 200,
      scales: { x: { time: false } },
      hooks: { setCursor: [(plot) => { if (plot.cursor.idx === null) this.newest(); }] },
      axes: [{ ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000] }, { ...axis, size: 56, values: (plot, ticks) => ticks.map((tick) => show(plot, tick)) }],
      series: [{ label: "round" }, ...series.map((one, place) => ({
        label: one.label, stroke: COLORS[place % COLORS.length], width: 2, value: show, spanGaps: true,
        points: { size: 5 },
      }))],
    }, [[], ...series.map(() => [])], this.box);
    new ResizeObserver(() => this.plot.setSize({ width: this.width(), height: 200 })).observe(this.figure);
  }

  width() {
    return Math.max(200, this.figure.clientWidth - 20);
  }

  // While nobody points at a round, the legend tells the newest values.
  newest() {
    const last = this.plot.data[0].length - 1;
    if (last >= 0) this.plot.setLegend({ idx: last });
  }

  set(rows) {
    const columns = this.series.map((one) => rows.map((row) => one.of(row) ?? null));
    const has = columns.map((column) => column.some((value) => value !== null));
    this.figure.hidden = !has.some(Boolean);
    this.plot.setData([rows.map((row) => row.round), ...columns]);
    has.forEach((shown, place) => {
      if (this.plot.series[place + 1].show !== shown) this.plot.setSeries(place + 1, { show: shown });
      this.box.querySelectorAll(".u-legend .u-series")[place + 1]?.toggleAttribute("hidden", !shown);
    });
    this.newest();
    const last = this.series.map((one, place) => `${one.label} ${this.show(null, columns[place].findLast((value) => value !== null))}`);
    this.figure.setAttribute("aria-label", `${this.title}, newest: ${last.join(", ")}`);
  }
}
