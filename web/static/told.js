// Sentences of the server's: a code and what stands in it, said in the page's words; of a code without words here,
// the server's own English.

import { h } from "./dom.js";
import { nameOf } from "./state.js";
import { coded, LABELS, moment, number, percent, percents, phrase, t } from "./words.js";

const SHOWN = {
  pollutant: (one) => LABELS[one] ?? one,
  pollutants: (all) => all.map((one) => LABELS[one] ?? one).join(", "),
  share: percent,
  coverage: percent,
  shares: carriers,
  method: (name) => t(`method.${name}`),
  reasons: (all) => all.map((one) => coded("reason", one)).join(", "),
  severity: (name) => t(`severity.${name}`),
  status: (name) => t(`status.${name}`),
  station: nameOf,
  subject: (name) => (name.endsWith(" index") ? t("hint.index", { standard: name.slice(0, -6) }) : LABELS[name] ?? name),
  unit: (name) => name.replace("ug/m3", "µg/m³"),
  span: (name) => name.replace(/^(\d+)h$/, "$1 h").replace("min", " min"),
  why: (text) => h("span", { lang: "en" }, text),
};

/** Who carries a value, the most first, in per cents that make a hundred; `named`: more of a name's words. */
export function carriers(shares, named = {}) {
  const found = Object.entries(shares).filter(([, share]) => share > 0.005).sort((a, b) => b[1] - a[1]);
  // Rounded as sentences have them, so that the same value is told the same everywhere.
  const parts = percents(found.map(([, share]) => Math.round(1000 * share) / 1000));
  return found.map(([name], n) => `${parts[n]} ${t(`method.${name}`)}${named[name] ?? ""}`).join(", ");
}

/** A sentence as what `h` takes; `kind` is before its code among the words. */
export function told(kind, one, zone = "UTC") {
  const words = phrase(`${kind}.${one.code}`);
  if (words === undefined) return [h("span", { lang: "en" }, one.text)];
  const made = words.split(/(\{\w+\})/).map((part) => {
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    if (!name) return part;
    const value = one.values[name];
    if (name === "at") return moment(value, zone);
    return SHOWN[name]?.(value) ?? (typeof value === "number" ? number(value) : String(value));
  });
  const parts = (one.parts ?? []).flatMap((part, n) => [n ? "; " : ": ", ...told(kind, part, zone)]);
  return [...made, ...parts];
}
