// Data quality: what the stations' last hours were made of.

import { all } from "../api.js";
import { cards, h, show } from "../dom.js";
import { zoneOf } from "../marks.js";
import { nameOf } from "../state.js";
import { coded, fault, moment, number, percent, t } from "../words.js";

const HOURS = [1, 6, 24, 48];

export async function open(main) {
  let hours = 6;
  let ended = false;
  const box = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("nav.quality") });
  const choices = h("div", { class: "choices", role: "group", "aria-label": t("station.range") });
  show(main, h("h1", {}, t("nav.quality")), h("p", { class: "dim" }, t("quality.about")), choices, box);

  function choose() {
    show(choices, HOURS.map((one) => h("button", { type: "button", "aria-pressed": String(one === hours), onclick: () => { hours = one; choose(); fill(); } }, t("quality.hours", { count: one }))));
  }

  async function fill() {
    let found;
    try {
      found = await all(`quality?hours=${hours}&limit=50`, "stations");
    } catch (error) {
      if (!box.children.length) show(box, h("p", { class: "bad" }, fault(error)));
      return;
    }
    if (ended) return;
    const doubt = (one) => Object.keys(one.refused).length * 10 + one.troubles.length * 5 + (one.measured + one.imputed ? one.imputed / (one.measured + one.imputed) : 1);
    found.sort((a, b) => doubt(b) - doubt(a));
    show(box, cards(h("table", {},
      h("thead", {}, h("tr", {}, ["quality.station", "quality.state", "quality.covered", "quality.made", "quality.flags", "quality.refused", "quality.clock", "quality.battery"].map((one) => h("th", { scope: "col" }, t(one))))),
      h("tbody", {}, found.map(row)))));
  }

  choose();
  await fill();
  const timer = setInterval(fill, 30000);
  return {
    title: t("nav.quality"),
    close: () => {
      ended = true;
      clearInterval(timer);
    },
  };
}

function row(one) {
  const whole = one.measured + one.imputed + one.missing || 1;
  const parts = [["measured", one.measured], ["imputed", one.imputed], ["missing", one.missing]];
  const words = parts.filter(([, count]) => count).map(([name, count]) => `${t(`kind.${name}`)} ${percent(count / whole)}`).join(", ");
  const flagged = Object.entries(one.flags).filter(([flag]) => flag !== "1");
  return h("tr", {},
    h("th", { scope: "row" }, h("a", { href: `/stations/${one.station}`, "data-go": "" }, nameOf(one.station))),
    h("td", { class: one.state && one.state !== "online" ? "bad" : "" }, one.state ? t(`state.${one.state}`) : "–",
      one.heard_at ? h("span", { class: "dim" }, ` ${moment(one.heard_at, zoneOf(one.station))}`) : "",
      one.troubles.map((trouble) => h("div", { class: "bad" }, coded("trouble", trouble)))),
    h("td", { class: "num" }, one.covered === null ? "–" : percent(one.covered)),
    h("td", {}, h("span", { class: "stack", "aria-hidden": "true" }, parts.map(([name, count]) => h("i", { class: name, style: { width: `${(100 * count) / whole}%` } }))), h("span", {}, words)),
    h("td", {}, flagged.length ? flagged.map(([flag, count]) => `${t(`flag.${flag}`)} ${number(count)}`).join(", ") : h("span", { class: "dim" }, t("quality.noflag"))),
    h("td", { class: "reasons", lang: "en" }, Object.entries(one.refused).map(([sensor, why]) => h("div", { class: "bad" }, h("b", {}, sensor), ` ${why}`))),
    h("td", { class: one.troubles.includes("clock") ? "bad num" : "num" }, one.clock_offset_s === null ? "–" : `${number(one.clock_offset_s)} s`),
    h("td", { class: one.troubles.includes("battery") ? "bad num" : "num" }, one.battery_percent === null ? "–" : percent(one.battery_percent / 100)));
}
