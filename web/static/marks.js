// How a station is drawn: colour by category, the number itself, and a shape by what the number rests on.

import { h, s } from "./dom.js";
import { isStale, look, state } from "./state.js";
import { amount, categoryName, concentration, t } from "./words.js";

export const GREY = { shade: "#6b7280", ink: "#ffffff" };

/** circle: measured; diamond: some of it imputed; triangle: all of it imputed. */
export function shapeOf(estimate) {
  if (!estimate) return "circle";
  const index = estimate.index;
  if (!estimate.measured) return "triangle";
  return index && index.imputed_share > 0.005 ? "diamond" : "circle";
}

/** Outline of a shape around (0, 0), of radius 1: [[x, y], ...]; null for a circle. */
export const OUTLINES = {
  circle: null,
  diamond: [[0, -1.18], [1.18, 0], [0, 1.18], [-1.18, 0]],
  triangle: [[0, -1.25], [1.28, 0.95], [-1.28, 0.95]],
};

/** What is drawn of a station, `estimate` null where nothing has come of it: {shape, shade, ink, number, dashed, stale}. */
export function drawn(estimate) {
  // Nothing has come yet: a place without news.
  if (!estimate) return { shape: "circle", ...GREY, number: "–", dashed: true, stale: false, category: null };
  const stale = isStale(estimate);
  const index = estimate.index;
  const category = stale ? null : look(index);
  const { shade, ink } = category ?? GREY;
  const number = index?.index === null || index?.index === undefined ? "–" : String(index.index);
  return { shape: shapeOf(estimate), shade, ink, number, dashed: stale || index?.status !== "valid", stale, category };
}

/** The mark as SVG; its words stand beside it, so it is hidden from screen readers. */
export function mark(estimate, size = 40) {
  const { shape, shade, ink, number, dashed } = drawn(estimate);
  const outline = OUTLINES[shape];
  const common = { fill: shade, class: dashed ? "edge dashed" : "edge" };
  const form = outline
    ? s("polygon", { ...common, points: outline.map(([x, y]) => `${14 * x},${14 * y}`).join(" ") })
    : s("circle", { ...common, r: 15 });
  const text = s("text", { fill: ink, "text-anchor": "middle", y: shape === "triangle" ? 9 : 4.5, "font-size": number.length > 2 ? (shape === "circle" ? 12 : 11) : 13 }, number);
  return s("svg", { width: size, height: size, viewBox: "-20 -20 40 40", "aria-hidden": "true", class: "mark" }, form, text);
}

/** Category and status in words, always beside the number; of a stale station only what it was. */
export function statusWords(estimate) {
  if (!estimate) return t("city.unheard");
  const index = estimate.index;
  if (!index || index.index === null || index.index === undefined) return t("status.none");
  const category = look(index);
  if (isStale(estimate)) return t("stale.was", { what: category ? categoryName(category) : t(`status.${index.status}`) });
  return `${category ? categoryName(category) : ""}, ${t(`status.${index.status}`)}`;
}

/** A pollutant with its unit; imputed ones with ~ and their interval. */
export function value(name, one, brief = false) {
  if (!one) return h("span", { class: "dim" }, "–");
  const text = concentration(name, one.value);
  if (one.kind !== "imputed") return h("span", {}, text, one.kind === "corrected" ? "*" : "");
  const spread = one.lo === undefined || one.lo === null ? "" : ` (${amount(name, one.lo)}–${amount(name, one.hi)})`;
  return h("span", { class: "imputed", title: t("imputed.title") }, `~${text}`, brief ? "" : spread);
}

/** What its values are from: what was measured on the spot, or who stands in for it. */
export function sides(estimate) {
  const carry = estimate.sources ?? [];
  if (!estimate.measured && carry.length) return carry.map((one) => t(`source.${one}`)).join(" + ");
  return [t(`sides.${estimate.sides}`), ...carry.filter((one) => one === "neighbours").map((one) => t(`source.${one}`))].join(" + ");
}

export function zoneOf(id) {
  return state.stations.get(id)?.timezone ?? "UTC";
}
