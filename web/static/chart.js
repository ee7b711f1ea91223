// A series: measured and imputed values as lines of their own, the interval as a band; a forecast: a fan (uPlot).

import { h } from "./dom.js";
import { dates, moment, number, percent, t } from "./words.js";

/** The chart of a series as the API has it, in the unit of `unit`; {element, cut, close}. */
export async function chart(series, { unit, factor }, zone) {
  const times = series.at.map((one) => new Date(one) / 1000);
  const scaled = (values) => values.map((one) => (one === null ? null : one * factor));
  const data = [times, scaled(series.lo), scaled(series.hi), scaled(series.measured), scaled(series.imputed)];
  // A kind of its own where there is any: it is neither the one nor the other.
  const some = series.partly.some((one) => one !== null);
  if (some) data.push(scaled(series.partly));
  const values = data.slice(3).flat().filter((one) => one !== null);
  const { top, cut } = room(values, data[2]);
  const gaps = gapsOf(series, times);
  const spread = data.map((column) => [...column]);
  for (let n = times.length - 1; n > 0; n--) {
    if (times[n] - times[n - 1] > gaps[n]) {
      spread.forEach((column, which) => column.splice(n, 0, which ? null : times[n - 1] + 1));
    }
  }
  const points = times.length < 60;
  const lines = [
    end(t("chart.lo"), unit),
    end(t("chart.hi"), unit),
    line(t("measured"), unit, colour("--measured"), points),
    line(t("imputed"), unit, colour("--imputed"), points, { dash: [6, 4] }),
    ...(some ? [line(t("shape.diamond"), unit, colour("--partly"), points, { dash: [2, 3] })] : []),
  ];
  const bands = [{ series: [2, 1], fill: colour("--band") }];
  return { ...(await drawn(spread, lines, bands, { unit, zone, top, words: summary(series, unit, factor) })), cut };
}

/** The fan of a forecast: the median between its quantiles, over the ends of the hours. */
export async function fan(at, { unit, median, wide, half }, zone) {
  const times = at.map((one) => new Date(one) / 1000);
  const { top, cut } = room(median.filter((one) => one !== null), wide[1]);
  const pairs = half ? [wide, half] : [wide];
  const named = [["5 %", "95 %"], ["25 %", "75 %"]];
  const lines = [
    ...pairs.flatMap((_, n) => named[n].map((name) => end(name, unit))),
    line(t("forecast.median"), unit, colour("--imputed"), false, { dash: [6, 4] }),
  ];
  const bands = pairs.map((_, n) => ({ series: [2 * n + 2, 2 * n + 1], fill: colour("--band") }));
  const there = (values) => values.filter((one) => one !== null);
  const words = t("forecast.summary", {
    least: number(Math.min(...there(median))), most: number(Math.max(...there(median))), unit,
    lo: number(Math.min(...there(wide[0]))), hi: number(Math.max(...there(wide[1]))),
  });
  return { ...(await drawn([times, ...pairs.flat(), median], lines, bands, { unit, zone, top, words })), cut };
}

/** For each point, from how many seconds on nothing came between it and the one before; their times are in s. */
function gapsOf(series, times) {
  const usual = series.span_s ? 3 * series.span_s : Math.max(600, 3 * stepOf(times));
  return series.lengths_s.map((length) => Math.max(usual, 1.5 * length));
}

/** Seconds from a point to the next, as they mostly are. */
function stepOf(times) {
  const steps = times.slice(1).map((one, n) => one - times[n]).sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 0;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** How high an axis goes: one wide interval shall not flatten all values; `cut`: the end that is cut off. */
function room(values, ends) {
  const highest = Math.max(1, ...values);
  const widest = Math.max(highest, ...ends.filter((one) => one !== null));
  const top = Math.min(widest, 2.2 * highest) * 1.08;
  return { top, cut: widest > top ? widest : null };
}

function line(label, unit, stroke, points, more = {}) {
  return {
    label, stroke, width: 2, spanGaps: false, points: { show: points, size: 5, fill: stroke },
    value: (_, one) => (one === null || one === undefined ? "–" : `${number(one)} ${unit}`), ...more,
  };
}

/** An end of a band, which is not drawn itself. */
function end(label, unit) {
  return line(label, unit, "transparent", false, { width: 0 });
}

/** A plot as wide as its place: {element, close}. */
async function drawn(data, lines, bands, { unit, zone, top, words }) {
  const { default: uPlot } = await import("./vendor/uPlot.js");
  const element = h("div", { class: "chart", role: "img", "aria-label": words });
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const options = {
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), zone),
    scales: { y: { range: [0, top] } },
    cursor: { drag: { x: true, y: false } },
    legend: { live: true },
    axes: [
      { ...axis, space: 70, values: (_, all) => hours(all, zone) },
      { ...axis, label: unit, labelSize: 22, size: 56, values: (_, all) => all.map((one) => number(one)) },
    ],
    series: [
      { label: t("chart.time"), value: (_, at) => (at === null ? "–" : new Date(at * 1000).toLocaleString(dates().where, { timeZone: zone })) },
      ...lines,
    ],
    bands,
  };
  let plot = null;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(element.clientWidth);
    if (!width) return;
    const height = width < 500 ? 240 : 320;
    if (plot) plot.setSize({ width, height });
    else plot = new uPlot({ ...options, width, height }, data, element);
  });
  observer.observe(element);
  return {
    element,
    close: () => {
      observer.disconnect();
      plot?.destroy();
    },
  };
}

/** Times of an axis: the hour, and the day where it begins. */
function hours(all, zone) {
  const { where, month } = dates();
  const hour = new Intl.DateTimeFormat(where, { timeZone: zone, hour: "2-digit", minute: "2-digit", hour12: false });
  const day = new Intl.DateTimeFormat(where, { timeZone: zone, day: "numeric", month });
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
  const values = [...series.measured, ...series.partly, ...series.imputed].filter((one) => one !== null).map((one) => one * factor);
  if (!values.length) return t("chart.empty");
  return t("chart.summary", {
    least: number(Math.min(...values)), most: number(Math.max(...values)), unit,
    measured: series.measured.filter((one) => one !== null).length,
    partly: series.partly.filter((one) => one !== null).length,
    imputed: series.imputed.filter((one) => one !== null).length,
  });
}

/** How a flag is drawn: the worst on top of the others. */
const FLAGS = { 1: "flag1", 2: "flag2", 9: "flag9", 3: "flag3", 4: "flag4", unknown: "unknown", none: "nodata" };

/** The flags of a point and the shares of its windows that have them; those of hours and days are not kept. */
function flagsOf(series, n) {
  const found = {};
  let rest = 1;
  for (const flag of Object.keys(FLAGS)) {
    const share = series.shares[flag]?.[n] ?? 0;
    if (share > 0) found[flag] = share;
    rest -= share;
  }
  if (rest > 0.005) found[series.lengths_s[n] ? "unknown" : "none"] = rest;
  return found;
}

function said(flags) {
  const all = Object.entries(flags);
  if (all.length === 1) return t(`flag.${all[0][0]}`);
  return all.map(([flag, share]) => `${t(`flag.${flag}`)} ${little(share)}`).join(", ");
}

/** A share in per cent; one that is not nothing is not said to be. */
function little(share) {
  return share > 0 && share < 0.005 ? `< ${percent(0.01)}` : percent(share);
}

/**
 * Quality flags over time as a strip: in the height of a piece, the shares of its windows by flag. Neighbours
 * that are alike are one piece, and so is a time without data. Below it the time, and what of it had which flag.
 */
export function timeline(series, zone) {
  const strip = h("div", { class: "strip", role: "img" });
  const times = series.at.map((one) => +new Date(one) / 1000);
  const whole = times[times.length - 1] - times[0];
  if (!(whole > 0)) return strip;
  const [gaps, step] = [gapsOf(series, times), series.span_s || stepOf(times)];
  const pieces = [];
  const piece = (flags, seconds) => {
    const alike = JSON.stringify(flags);
    const last = pieces[pieces.length - 1];
    if (last?.alike === alike) last.seconds += seconds;
    else pieces.push({ alike, flags, seconds });
  };
  // A point stands for the time before it: for as long as a step, where nothing came for longer.
  for (let n = 1; n < times.length; n++) {
    const passed = times[n] - times[n - 1];
    const empty = passed > gaps[n] ? passed - Math.max(step, series.lengths_s[n]) : 0;
    if (empty > 0) piece({ none: 1 }, empty);
    piece(flagsOf(series, n), passed - Math.max(0, empty));
  }
  const sums = {};
  for (const { flags, seconds } of pieces) {
    const all = Object.entries(flags);
    for (const [flag, share] of all) sums[flag] = (sums[flag] ?? 0) + (share * seconds) / whole;
    const look = { title: said(flags), style: { width: `${(100 * seconds) / whole}%` } };
    strip.append(all.length === 1 ? h("span", { class: FLAGS[all[0][0]], ...look })
      : h("span", look, all.map(([flag, share]) => h("i", { class: FLAGS[flag], style: { height: `${100 * share}%` } }))));
  }
  const shown = Object.keys(FLAGS).filter((flag) => flag in sums);
  strip.setAttribute("aria-label", shown.map((flag) => `${t(`flag.${flag}`)}: ${little(sums[flag])}`).join(", "));
  return h("div", { class: "timeline" }, strip,
    h("p", { class: "ticks dim", "aria-hidden": "true" }, [0, 0.5, 1].map((part) => h("span", {}, moment(1000 * (times[0] + part * whole), zone)))),
    h("p", { class: "legend" }, shown.map((flag) => h("span", {}, h("i", { class: FLAGS[flag] }), `${t(`flag.${flag}`)} ${little(sums[flag])}`))));
}
