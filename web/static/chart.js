// A series: measured and imputed values as lines of their own, the interval as a band (uPlot).

import { h } from "./dom.js";
import { number, t } from "./words.js";

/** The chart of a series as the API has it, in the unit of `unit`; {element, close}. */
export async function chart(series, { unit, factor }, zone) {
  const { default: uPlot } = await import("./vendor/uPlot.js");
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const times = series.at.map((one) => new Date(one) / 1000);
  const scaled = (values) => values.map((one) => (one === null ? null : one * factor));
  const data = [times, scaled(series.lo), scaled(series.hi), scaled(series.measured), scaled(series.imputed)];
  const values = [...data[3], ...data[4]].filter((one) => one !== null);
  const highest = Math.max(1, ...values);
  // One wide interval shall not flatten all values: it is cut off, and the text below says so.
  const top = Math.min(Math.max(highest, ...data[2].filter((one) => one !== null)), 2.2 * highest) * 1.08;
  const gap = series.span_s ? 3 * series.span_s : 600;
  const spread = data.map((column) => [...column]);
  for (let n = times.length - 1; n > 0; n--) {
    if (times[n] - times[n - 1] > gap) {
      spread.forEach((column, which) => column.splice(n, 0, which ? null : times[n - 1] + 1));
    }
  }
  const element = h("div", { class: "chart", role: "img", "aria-label": summary(series, unit, factor) });
  const line = (label, stroke, more = {}) => ({
    label, stroke, width: 2, spanGaps: false, points: { show: times.length < 60, size: 5, fill: stroke },
    value: (_, one) => (one === null || one === undefined ? "–" : `${number(one)} ${unit}`), ...more,
  });
  const options = {
    width: 600, height: 300, tzDate: (at) => uPlot.tzDate(new Date(at * 1000), zone),
    scales: { y: { range: [0, top] } },
    cursor: { drag: { x: true, y: false } },
    legend: { live: true },
    axes: [
      { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") },
        space: 70, values: (_, all) => hours(all, zone) },
      { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") },
        label: unit, labelSize: 22, size: 56, values: (_, all) => all.map((one) => number(one)) },
    ],
    series: [
      { value: (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleString(document.documentElement.lang, { timeZone: zone })) },
      line(t("chart.lo"), "transparent", { width: 0, points: { show: false } }),
      line(t("chart.hi"), "transparent", { width: 0, points: { show: false } }),
      line(t("measured"), colour("--measured")),
      line(t("imputed"), colour("--imputed"), { dash: [6, 4] }),
    ],
    bands: [{ series: [2, 1], fill: colour("--band") }],
  };
  let plot = null;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(element.clientWidth);
    if (!width) return;
    const height = width < 500 ? 240 : 320;
    if (plot) plot.setSize({ width, height });
    else plot = new uPlot({ ...options, width, height }, spread, element);
  });
  observer.observe(element);
  return {
    element,
    cut: data[2].some((one) => one !== null && one > top) ? Math.max(...data[2].filter((one) => one !== null)) : null,
    close: () => {
      observer.disconnect();
      plot?.destroy();
    },
  };
}

/** Times of an axis: the hour, and the day where it begins. */
function hours(all, zone) {
  const language = document.documentElement.lang;
  const hour = new Intl.DateTimeFormat(language, { timeZone: zone, hour: "2-digit", minute: "2-digit", hour12: false });
  const day = new Intl.DateTimeFormat(language, { timeZone: zone, day: "numeric", month: "short" });
  let before = null;
  return all.map((at) => {
    const date = new Date(at * 1000);
    const today = day.format(date);
    const text = today === before ? hour.format(date) : `${hour.format(date)}\n${today}`;
    before = today;
    return text;
  });
}

function summary(series, unit, factor) {
  const values = [...series.measured, ...series.imputed].filter((one) => one !== null).map((one) => one * factor);
  if (!values.length) return t("chart.empty");
  return t("chart.summary", {
    least: number(Math.min(...values)), most: number(Math.max(...values)), unit,
    measured: series.measured.filter((one) => one !== null).length,
    imputed: series.imputed.filter((one) => one !== null).length,
  });
}

const FLAGS = { 1: "flag1", 2: "flag2", 3: "flag3", 4: "flag4", 9: "flag9" };

/** Quality flags over time as a strip: neighbours that are alike are one piece. */
export function timeline(series) {
  const strip = h("div", { class: "strip", role: "img" });
  const times = series.at.map((one) => +new Date(one));
  if (times.length < 2) return strip;
  const whole = times[times.length - 1] - times[0] || 1;
  const counts = {};
  let start = 0;
  for (let n = 0; n < times.length; n++) {
    const flag = series.qc[n] ?? 9;
    counts[flag] = (counts[flag] ?? 0) + 1;
    if (n + 1 < times.length && (series.qc[n + 1] ?? 9) === flag) continue;
    const begin = start ? times[start - 1] : times[0];
    const share = (100 * (times[n] - begin)) / whole;
    if (share > 0) strip.append(h("span", { class: FLAGS[flag] ?? "flag9", style: { width: `${share}%` }, title: t(`flag.${flag}`) }));
    start = n + 1;
  }
  strip.setAttribute("aria-label", Object.entries(counts).map(([flag, count]) => `${t(`flag.${flag}`)}: ${count}`).join(", "));
  return strip;
}

export function flagLegend() {
  return h("p", { class: "legend" }, [1, 2, 3, 4, 9].map((flag) => h("span", {}, h("i", { class: FLAGS[flag] }), t(`flag.${flag}`))));
}
