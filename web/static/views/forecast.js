// The next three days of a station: a fan of quantiles, and how likely each category is.

import { get } from "../api.js";
import { fan } from "../chart.js";
import { h, show } from "../dom.js";
import { now, state } from "../state.js";
import { ago, categoryName, coded, LABELS, moment, number, percent, signed, t, unitOf } from "../words.js";

const HOUR_MS = 3600000;
/** From this age on a forecast is old: a new one is made every hour. */
const OLD_MS = 2.5 * HOUR_MS;
/** From fewer hours of its own a station's forecast is the guess of a stranger. */
const DAY_H = 24;
/** From this share of guessed input on it is said before all else. */
const MOSTLY_GUESSED = 0.5;
/** Hours of a column of chances. */
const STEP = 3;

/** A card that is hidden while there is no forecast: {element, fill(what), close()}. */
export function forecastCard(id, zone) {
  const above = h("div", {});
  const plotted = h("div", {});
  const below = h("div", {});
  const element = h("section", { class: "card wide", hidden: true }, h("h2", {}, t("forecast.title")), above, plotted, below);
  let plot = null;
  let shown = "";
  let ended = false;

  function hide() {
    element.hidden = true;
    shown = "";
    plot?.close();
    plot = null;
  }

  async function fill(what) {
    let made;
    try {
      made = (await get(`forecast?station=${id}`)).forecast;
    } catch {
      return; // the notice says what is away; what was there stays
    }
    const curves = made && curvesOf(made, what);
    if (ended) return;
    if (!curves) return hide();
    const version = `${what} ${made.issued_at} ${made.revision} ${document.documentElement.lang}`;
    if (version !== shown) {
      const before = plot;
      const next = await fan(made.at, curves, zone);
      if (ended) return next.close();
      plot = next;
      shown = version;
      show(plotted, plot.element);
      before?.close();
    }
    element.hidden = false;
    const young = made.history_h !== null && made.history_h < DAY_H;
    const unsure = young || curves.imputed_share >= MOSTLY_GUESSED;
    element.classList.toggle("unsure", unsure);
    show(above, unsure ? h("p", { class: "little" }, t("forecast.little"), " ", young ? [t("forecast.from", { hours: number(made.history_h) }), " "] : "", guessed(curves)) : null);
    show(below, legend(curves, plot.cut), words(made, curves, what), chances(made, zone), asTable(made, curves, zone));
  }

  function words(made, curves, what) {
    const of = what === "index" ? Object.keys(made.moves)[0] : what;
    const move = made.moves[of];
    const age = now() - new Date(made.issued_at);
    return [
      h("p", { class: age > OLD_MS ? "bad" : "dim" },
        t("forecast.made", { at: moment(made.issued_at, zone), ago: ago(new Date(made.issued_at), now()), model: made.model }), " ",
        t(made.weather_issued_at ? "forecast.weather" : "forecast.noweather"), age > OLD_MS ? ` ${t("forecast.old")}` : ""),
      curves.imputed_share > 0.005 && curves.imputed_share < MOSTLY_GUESSED ? h("p", {}, guessed(curves)) : null,
      move ? h("p", { class: "moves" }, moved(of, move)) : null,
    ];
  }

  return {
    element,
    fill,
    close: () => {
      ended = true;
      hide();
    },
  };
}

function guessed(curves) {
  return h("span", { class: "imputed" }, t("forecast.imputed", { pollutant: LABELS[curves.guessed], share: percent(curves.imputed_share) }));
}

/** What moves the forecast of a pollutant, in its unit; the parts make the whole. */
function moved(name, move) {
  const { unit, factor } = unitOf(name);
  const by = (one) => signed(one * factor);
  const parts = Object.entries(move.shares).map(([subject, share]) => `${coded("mover", subject.replaceAll(" ", "_"), subject)} ${by(share)}`);
  if (Math.abs(move.rest) >= 0.05) parts.push(`${t("mover.rest")} ${by(move.rest)}`);
  const steady = Math.abs(move.change) < 0.05 * Math.max(move.last, 1);
  const way = steady ? "forecast.steady" : move.change > 0 ? "forecast.rises" : "forecast.falls";
  const head = t(way, { pollutant: LABELS[name], hours: number(move.hours), change: number(Math.abs(move.change) * factor), last: number(move.last * factor), unit });
  return parts.length ? `${head} (${unit}): ${parts.join("; ")}` : head;
}

/** What the bands are, and how far they go where they are cut off. */
function legend(curves, cut) {
  const sign = (name, text) => h("span", {}, h("i", { class: name }), text);
  return [
    h("p", { class: "legend" }, sign("median", t("forecast.median")), curves.half ? sign("half", t("forecast.half")) : null, sign("wide", t("forecast.wide"))),
    cut !== null ? h("p", { class: "dim" }, t("chart.cut", { value: number(cut), unit: curves.unit })) : null,
  ];
}

/** What is drawn of a pollutant, or of the index: {unit, median, wide: [lo, hi], half: [lo, hi] | null}. */
function curvesOf(made, what) {
  if (what === "index") {
    const one = made.indices[0];
    if (!one || one.index.every((value) => value === null)) return null;
    // The index is worth what its worst known part is.
    const [guessed, worst] = Object.entries(made.pollutants).reduce((a, b) => (b[1].imputed_share > a[1].imputed_share ? b : a));
    return { unit: t("points"), median: one.index, wide: [one.lo, one.hi], half: null, guessed, imputed_share: worst.imputed_share };
  }
  const one = made.pollutants[what];
  if (!one) return null;
  const { unit, factor } = unitOf(what);
  const at = (level) => one.quantiles[made.levels.indexOf(level)].map((value) => value * factor);
  return { unit, median: at(0.5), wide: [at(0.05), at(0.95)], half: [at(0.25), at(0.75)], guessed: what, imputed_share: one.imputed_share };
}

function categoriesOf(block) {
  const standard = state.site?.standards.find((one) => one.id === block.standard);
  return block.categories.map((name, level) => standard?.categories[level] ?? { shade: "var(--dim)", ink: "#fff", name: { en: name } });
}

/** The chances as columns of three hours, the best category at the bottom. */
function chances(made, zone) {
  const block = made.indices[0];
  if (!block) return null;
  const categories = categoriesOf(block);
  const columns = [];
  for (let begin = 0; begin < made.at.length; begin += STEP) {
    const mean = block.probabilities.map((row) => row.slice(begin, begin + STEP).reduce((sum, one) => sum + one, 0) / Math.min(STEP, row.length - begin));
    columns.push(h("span", { class: "column", title: `${moment(made.at[Math.min(begin + STEP, made.at.length) - 1], zone)}: ${said(mean, categories)}` },
      mean.map((share, level) => (share > 0.004 ? h("i", { style: { height: `${100 * share}%`, background: categories[level].shade } }) : null))));
  }
  return [
    h("h3", {}, t("forecast.chances")),
    h("div", { class: "chances", "aria-hidden": "true" }, columns),
    h("p", { class: "legend" }, categories.map((one) => h("span", {}, h("i", { style: { background: one.shade } }), categoryName(one)))),
  ];
}

/** The category in the middle of what may come, which the median of the index lies in: how likely the best one is, or it or a worse one. */
function said(shares, categories) {
  let below = 0;
  const middle = shares.findIndex((share) => (below += share) >= 0.5);
  const level = middle < 0 ? shares.length - 1 : middle;
  const category = categoryName(categories[level]);
  if (!level) return `${category} ${percent(shares[0])}`;
  return t("forecast.or_worse", { category, share: percent(shares.slice(level).reduce((sum, one) => sum + one, 0)) });
}

/** To which categories an hour's index belongs near an edge, the greater degree first; "" within one alone. */
function between(block, hour, categories) {
  const degrees = block.membership.map((row, level) => [row[hour - 1], level]).filter(([degree]) => degree > 0);
  if (degrees.length < 2) return "";
  return degrees.sort((a, b) => b[0] - a[0]).map(([degree, level]) => `${categoryName(categories[level])} ${percent(degree)}`).join(", ");
}

function asTable(made, curves, zone) {
  const block = made.indices[0];
  const categories = block ? categoriesOf(block) : [];
  const hours = made.at.map((_, n) => n + 1).filter((hour) => curves.median[hour - 1] !== null);
  const range = ([lo, hi], hour) => h("td", { class: "num" }, `${number(lo[hour - 1])}–${number(hi[hour - 1])}`);
  return h("details", {}, h("summary", {}, t("forecast.table")),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("forecast.title") }, h("table", {},
      h("thead", {}, h("tr", {}, [t("forecast.hour"), `${t("forecast.median")}, ${curves.unit}`, ...(curves.half ? [t("forecast.half")] : []), t("forecast.wide"), ...(block ? [t("forecast.category"), t("forecast.between")] : [])].map((one) => h("th", { scope: "col" }, one)))),
      h("tbody", {}, hours.map((hour) => h("tr", {},
        h("th", { scope: "row" }, `+${hour} h · ${moment(made.at[hour - 1], zone)}`),
        h("td", { class: "num" }, `~${number(curves.median[hour - 1])}`),
        curves.half ? range(curves.half, hour) : null, range(curves.wide, hour),
        block ? h("td", {}, said(block.probabilities.map((row) => row[hour - 1]), categories)) : null,
        block ? h("td", {}, between(block, hour, categories)) : null))))));
}
