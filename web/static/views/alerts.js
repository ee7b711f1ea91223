// Alerts: those that are open, those on their way, those that were, and why there is none.

import { get } from "../api.js";
import { h, show } from "../dom.js";
import { zoneOf } from "../marks.js";
import { nameOf, now, onChange, state } from "../state.js";
import { told } from "../told.js";
import { ago, fault, moment, t } from "../words.js";

const SEVERITIES = ["extreme", "severe", "moderate", "minor", "info"];

function item(one) {
  const zone = zoneOf(one.station);
  const at = one.active ? one.since : one.at;
  return h("li", { class: `alert ${one.severity}` },
    h("span", { class: "severity" }, t(`severity.${one.severity}`)),
    h("a", { href: `/stations/${one.station}`, "data-go": "" }, nameOf(one.station)),
    h("span", { class: "dim" }, ` ${one.rule} · ${one.active ? t("since", { at: moment(at, zone) }) : `${t(`event.${one.event}`)} ${moment(at, zone)}`} (${ago(new Date(at), now())})`),
    one.told ? h("p", {}, told("hint", one.told, zone)) : h("p", { lang: "en" }, one.reason));
}

export async function open(main) {
  const active = h("ul", { class: "plain" });
  const soon = h("ul", { class: "plain" });
  const past = h("ul", { class: "plain" });
  const more = h("button", { type: "button", hidden: true, onclick: () => older() }, t("alerts.more"));
  const answer = h("ul", { class: "rules" });
  const choice = h("select", { id: "whose", onchange: () => explain() },
    h("option", { value: "" }, t("alerts.choose")), [...state.stations.keys()].sort().map((id) => h("option", { value: id }, nameOf(id))));
  show(
    main,
    h("h1", {}, t("nav.alerts")),
    h("section", { class: "card" }, h("h2", {}, t("alerts.open")), active),
    h("section", { class: "card" }, h("h2", {}, t("alerts.soon")), soon),
    h("section", { class: "card" }, h("h2", {}, t("alerts.why")), h("label", { for: "whose" }, t("alerts.whose")), " ", choice, answer),
    h("section", { class: "card" }, h("h2", {}, t("alerts.past")), past, more),
  );
  let next = null;

  function fill() {
    const found = [...state.alerts.values()]
      .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || b.since.localeCompare(a.since));
    show(active, found.length ? found.map(item) : h("li", { class: "dim" }, t("alerts.none")));
  }

  async function fillSoon() {
    try {
      const found = (await get("alerts/pending")).pending;
      show(soon, found.length ? found.map((one) => h("li", {}, h("span", { class: "severity" }, t(`severity.${one.severity}`)),
        h("a", { href: `/stations/${one.station}`, "data-go": "" }, nameOf(one.station)),
        h("span", {}, ` ${one.rule} · ${t("look.at", { at: moment(one.at, zoneOf(one.station)) })}`))) : h("li", { class: "dim" }, t("alerts.nosoon")));
    } catch {
      // The notice says that the server is away.
    }
  }

  async function older() {
    try {
      const page = await get(next ?? "alerts?active=false&limit=50");
      if (!next && !page.alerts.length) show(past, h("li", { class: "dim" }, t("alerts.nopast")));
      past.append(...page.alerts.map(item));
      next = page.next;
      more.hidden = !next;
    } catch (error) {
      if (!past.children.length) show(past, h("li", { class: "bad" }, fault(error)));
    }
  }

  async function explain() {
    if (!choice.value) return show(answer);
    try {
      const found = (await get(`alerts/explain?station=${choice.value}`)).rules;
      show(answer, found.map((one) => h("li", { class: one.open ? "open" : "" }, h("b", {}, `${one.open ? "● " : "○ "}${one.rule}`), h("span", { lang: "en" }, ` ${one.text}`))));
    } catch (error) {
      show(answer, h("li", { class: "bad" }, fault(error)));
    }
  }

  fill();
  fillSoon();
  older();
  const stop = onChange(fill);
  const timer = setInterval(() => { fill(); fillSoon(); explain(); }, 15000);
  return {
    title: t("nav.alerts"),
    close: () => {
      stop();
      clearInterval(timer);
    },
  };
}
