// Sentences of the server's: a code and what stands in it, said in the page's words; of a code without words here,
// the server's own English.

import { h } from "./dom.js";
import { nameOf } from "./state.js";
import { coded, LABELS, number, percent, phrase, t } from "./words.js";

const SHOWN = {
  pollutant: (one) => LABELS[one] ?? one,
  pollutants: (all) => all.map((one) => LABELS[one] ?? one).join(", "),
  share: percent,
  coverage: percent,
  shares: (all) => Object.entries(all).filter(([, share]) => share > 0.005).map(([name, share]) => `${percent(share)} ${t(`method.${name}`)}`).join(", "),
  method: (name) => t(`method.${name}`),
  reasons: (all) => all.map((one) => coded("reason", one)).join(", "),
  severity: (name) => t(`severity.${name}`),
  status: (name) => t(`status.${name}`),
  station: nameOf,
  span: (name) => name.replace(/^(\d+)h$/, "$1 h").replace("min", " min"),
  why: (text) => h("span", { lang: "en" }, text),
};

/** A sentence as what `h` takes; `kind` is before its code among the words. */
export function told(kind, one) {
  const words = phrase(`${kind}.${one.code}`);
  if (words === undefined) return [h("span", { lang: "en" }, one.text)];
  const made = words.split(/(\{\w+\})/).map((part) => {
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    if (!name) return part;
    const value = one.values[name];
    return SHOWN[name]?.(value) ?? (typeof value === "number" ? number(value) : String(value));
  });
  const parts = (one.parts ?? []).flatMap((part, n) => [n ? "; " : ": ", ...told(kind, part)]);
  return [...made, ...parts];
}
