// City: where which air is, the worst first, and how much of it was measured.

import { get } from "../api.js";
import { h, show } from "../dom.js";
import { stationMap } from "../map.js";
import { drawn, mark, shapeOf, sides, statusWords, value, zoneOf } from "../marks.js";
import { isStale, nameOf, now, onChange, state } from "../state.js";
import { told } from "../told.js";
import { ago, LABELS, moment, t } from "../words.js";

const SORT_EVERY_MS = 2500;
const AGES_EVERY_MS = 10000;

function rank(estimate) {
  return (isStale(estimate) ? -1e6 : 0) + (estimate.index?.index ?? -1);
}

function age(estimate) {
  const words = ago(new Date(estimate.at), now());
  return isStale(estimate) ? t("stale.since", { since: moment(estimate.at, zoneOf(estimate.station)) }) : words;
}

export async function open(main, { go, query }) {
  const kiosk = query.has("kiosk");
  const rows = new Map();
  const list = h("ol", { class: "stations" });
  const hints = h("ul", { class: "hints" });
  const sums = h("p", { class: "sums" });
  const search = h("input", { type: "search", placeholder: t("city.find"), "aria-label": t("city.find"), oninput: () => sort(true) });
  const map = stationMap((id) => go(`/stations/${id}`));
  const shapes = h("p", { class: "legend shapes" }, ["circle", "diamond", "triangle"].map((one) =>
    h("span", {}, h("b", { "aria-hidden": "true" }, { circle: "●", diamond: "◆", triangle: "▲" }[one]), t(`shape.${one}`))),
    h("span", {}, h("b", { class: "dash", "aria-hidden": "true" }, "┄"), t("shape.dashed")));
  const scale = h("p", { class: "legend scale" });
  show(
    main,
    h("h1", { class: "sr" }, t("nav.city")),
    h("section", { class: "look", "aria-label": t("city.look") }, h("h2", {}, t("city.look")), hints),
    sums,
    h("div", { class: "city" },
      h("section", { class: "mapbox", "aria-label": t("city.map") }, map.element, scale, shapes),
      h("section", { class: "listbox", "aria-labelledby": "worst" },
        h("div", { class: "listhead" }, h("h2", { id: "worst" }, t("city.list")), state.stations.size > 12 && !kiosk ? search : null), list)),
  );

  function row(id) {
    const estimate = state.latest.get(id);
    const made = { id, link: h("a", { href: `/stations/${id}`, "data-go": "" }), age: h("span", { class: "age" }) };
    made.element = h("li", {}, made.link);
    made.fill = (one) => {
      made.at = one;
      const { stale } = drawn(one);
      made.element.classList.toggle("stale", stale);
      const first = Object.keys(LABELS).find((name) => one.pollutants[name]);
      made.age.textContent = age(one);
      show(
        made.link,
        mark(one),
        h("span", { class: "who" }, h("strong", {}, nameOf(id)), h("span", { class: "dim" }, sides(one))),
        h("span", { class: "what" },
          h("span", {}, h("span", { class: "sr" }, `AQI ${one.index?.index ?? "–"} `), statusWords(one)),
          h("span", { class: "dim" }, t(`shape.${shapeOf(one)}`))),
        h("span", { class: "value" }, first ? [h("span", { class: "dim" }, `${LABELS[first]} `), value(first, one.pollutants[first])] : "–"),
        made.age,
      );
    };
    made.fill(estimate);
    rows.set(id, made);
    return made;
  }

  let order = "";
  let sorted = 0;
  let later = null;
  function sort(forced = false) {
    const wait = SORT_EVERY_MS - (Date.now() - sorted);
    if (!forced && wait > 0) {
      later ??= setTimeout(() => sort(true), wait);
      return;
    }
    clearTimeout(later);
    later = null;
    sorted = Date.now();
    const wanted = search.value.trim().toLowerCase();
    const ids = [...state.latest.keys()]
      .filter((id) => !wanted || id.toLowerCase().includes(wanted) || nameOf(id).toLowerCase().includes(wanted))
      .sort((one, other) => rank(state.latest.get(other)) - rank(state.latest.get(one)) || one.localeCompare(other));
    const shown = kiosk ? ids.slice(0, 12) : ids;
    const key = shown.join();
    if (key === order) return;
    order = key;
    const focused = document.activeElement;
    list.replaceChildren(...shown.map((id) => (rows.get(id) ?? row(id)).element));
    if (focused && list.contains(focused)) focused.focus({ preventScroll: true });
  }

  function total() {
    let measured = 0;
    let imputed = 0;
    let stale = 0;
    const levels = new Map();
    for (const one of state.latest.values()) {
      if (isStale(one)) {
        stale++;
        continue;
      }
      measured += one.measured;
      imputed += one.imputed;
      const { category } = drawn(one);
      if (category) levels.set(category, (levels.get(category) ?? 0) + 1);
    }
    show(
      sums,
      h("span", {}, t("city.stations", { count: state.latest.size })),
      h("span", {}, t("city.measured", { count: measured })),
      h("span", { class: "imputed" }, t("city.imputed", { count: imputed })),
      stale ? h("span", { class: "bad" }, t("city.stale", { count: stale })) : null,
    );
    const standard = state.site.standards.find((one) => [...state.latest.values()].some((each) => each.index?.standard === one.id));
    show(scale, (standard?.categories ?? []).map((one) =>
      h("span", {}, h("i", { style: { background: one.shade } }), `${one.low}${one.high === null || one.high === undefined ? "+" : `–${one.high}`}`)));
  }

  async function look() {
    try {
      const found = (await get("notable")).notable;
      const shown = pick(found);
      show(hints, shown.map((one) => h("li", { class: one.what },
        h("a", { href: one.what === "alert" || one.what === "pending" ? "/alerts" : `/stations/${one.station}`, "data-go": "" },
          h("b", {}, t(`look.${one.what}`)), " ", one.told ? [one.told.code === "all_stale" ? "" : `${nameOf(one.station)}: `, told("hint", one.told)] : h("span", { lang: "en" }, one.text),
          one.at && one.what !== "stale" ? h("span", { class: "dim" }, ` · ${t(one.what === "pending" ? "look.at" : "since", { at: moment(one.at, zoneOf(one.station)) })}`) : null))));
      if (!shown.length) show(hints, h("li", {}, t("look.nothing")));
    } catch {
      // What was there stays; the notice says that the server is away.
    }
  }

  sort(true);
  total();
  map.update();
  const ended = onChange((ids) => {
    for (const id of ids) {
      const estimate = state.latest.get(id);
      if (!estimate) continue;
      const known = rows.get(id);
      if (known && known.at !== estimate) known.fill(estimate);
    }
    sort();
    total();
    map.update();
  });
  const ages = setInterval(() => {
    for (const one of rows.values()) {
      const text = age(one.at);
      if (one.age.textContent !== text) one.age.textContent = text;
      if (isStale(one.at) !== one.element.classList.contains("stale")) one.fill(one.at);
    }
    sort();
    total();
  }, AGES_EVERY_MS);
  const looking = setInterval(look, 15000);
  look();
  return {
    title: t("nav.city"),
    close: () => {
      ended();
      clearTimeout(later);
      clearInterval(ages);
      clearInterval(looking);
      map.close();
    },
  };
}

/** One of each kind first: what differs tells more than three of the same. */
function pick(found) {
  const seen = new Map();
  const counted = found.map((one) => {
    const nth = seen.get(one.what) ?? 0;
    seen.set(one.what, nth + 1);
    return { one, nth };
  });
  return counted.sort((a, b) => a.nth - b.nth).slice(0, 5).map(({ one }) => one);
}
