// City: where which air is, the worst first, and how much of it was measured.

import { get } from "../api.js";
import { h, show } from "../dom.js";
import { stationMap } from "../map.js";
import { drawn, mark, shapeOf, sides, statusWords, value, zoneOf } from "../marks.js";
import { everyone, isStale, nameOf, newest, now, onChange, state } from "../state.js";
import { told } from "../told.js";
import { ago, LABELS, moment, number, t } from "../words.js";

const SORT_EVERY_MS = 2500;
const AGES_EVERY_MS = 10000;
/** What to look at: so many lines at once. On a wall, where nobody opens the others, they take turns. */
const LINES = 6;
const TURN_MS = 10000;
const LOOK_EVERY_MS = 15000;
/** Where something has changed it is asked for at once, but not more often than this. */
const LOOK_AGAIN_MS = 3000;

function rank(estimate) {
  if (!estimate) return -2e6;
  return (isStale(estimate) ? -1e6 : 0) + (estimate.index?.index ?? -1);
}

/** Whether it is a fault that its newest window is old: while the past is worked off it is not. */
function overdue(estimate) {
  return Boolean(estimate) && !state.coming && isStale(estimate);
}

function age(estimate) {
  if (!estimate) return "";
  const words = ago(new Date(estimate.at), now());
  return overdue(estimate) ? t("stale.since", { since: moment(estimate.at, zoneOf(estimate.station)) }) : words;
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
    const estimate = state.latest.get(id) ?? null;
    const made = { id, link: h("a", { href: `/stations/${id}`, "data-go": "" }), age: h("span", { class: "age" }) };
    made.element = h("li", {}, made.link);
    made.fill = (one) => {
      made.at = one;
      made.element.classList.toggle("stale", overdue(one));
      const first = one && Object.keys(LABELS).find((name) => one.pollutants[name]);
      made.age.textContent = age(one);
      show(
        made.link,
        mark(one),
        h("span", { class: "who" }, h("strong", {}, nameOf(id)), one ? h("span", { class: "dim" }, sides(one)) : null),
        one ? h("span", { class: "what" },
          h("span", {}, h("span", { class: "sr" }, `AQI ${one.index?.index ?? "–"} `), statusWords(one)),
          h("span", { class: "dim" }, t(`shape.${shapeOf(one)}`))) : h("span", { class: "what dim" }, statusWords(one)),
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
    const ids = everyone()
      .filter((id) => !wanted || id.toLowerCase().includes(wanted) || nameOf(id).toLowerCase().includes(wanted))
      .sort((one, other) => rank(state.latest.get(other)) - rank(state.latest.get(one)) || one.localeCompare(other));
    const shown = kiosk ? ids.slice(0, 12) : ids;
    const key = shown.join();
    if (key === order) return;
    order = key;
    for (const id of [...rows.keys()]) if (!state.latest.has(id) && !state.stations.has(id)) rows.delete(id);
    const focused = document.activeElement;
    list.replaceChildren(...shown.map((id) => (rows.get(id) ?? row(id)).element));
    if (focused && list.contains(focused)) focused.focus({ preventScroll: true });
  }

  function total() {
    let measured = 0;
    let imputed = 0;
    let stale = 0;
    const count = everyone().length;
    for (const one of state.latest.values()) {
      if (isStale(one)) {
        stale++;
        continue;
      }
      measured += one.measured;
      imputed += one.imputed;
    }
    show(
      sums,
      h("span", {}, t("city.stations", { count: number(count) })),
      count > state.latest.size ? h("span", { class: "dim" }, t("city.silent", { count: number(count - state.latest.size) })) : null,
      // Of nothing that is fresh there is nothing to count.
      measured + imputed ? h("span", {}, t("city.measured", { count: number(measured) })) : null,
      measured + imputed ? h("span", { class: "imputed" }, t("city.imputed", { count: number(imputed) })) : null,
      stale && !state.coming ? h("span", { class: "bad" }, t("city.stale", { count: number(stale) })) : null,
    );
    const standard = state.site.standards.find((one) => [...state.latest.values()].some((each) => each.index?.standard === one.id));
    show(scale, (standard?.categories ?? []).map((one) =>
      h("span", {}, h("i", { style: { background: one.shade } }), `${one.low}${one.high === null || one.high === undefined ? "+" : `–${one.high}`}`)));
  }

  /** What the server says to look at; null: it has not said it yet. */
  let notable = null;
  let askedAt = 0;
  let asking = null;
  let asked = "";
  let whole = false;
  let turn = 0;

  async function look() {
    clearTimeout(asking);
    asking = null;
    askedAt = Date.now();
    asked = situation();
    try {
      notable = await get("notable");
      showHints();
    } catch {
      // What was there stays; the notice says that the server is away.
    }
  }

  /** What, where it changes, makes something else worth looking at. */
  function situation() {
    return JSON.stringify([state.coming, state.latest.size > 0, fresh(), [...state.alerts.keys()]]);
  }

  function fresh() {
    return [...state.latest.values()].some((one) => !isStale(one));
  }

  function lookAgain() {
    if (situation() === asked) return;
    showHints();
    asking ??= setTimeout(look, Math.max(0, askedAt + LOOK_AGAIN_MS - Date.now()));
  }

  function showHints() {
    const lines = [];
    if (!state.latest.size) lines.push(h("li", {}, t("look.none")));
    else if (state.coming) lines.push(h("li", {}, t("look.coming", { at: moment(newest()) })));
    // What the page has heard since is newer than what it was told.
    const found = (notable?.notable ?? []).filter((one) => one.told?.code !== "all_stale" || (!state.coming && !fresh()));
    if (!lines.length && !found.length && notable) lines.push(h("li", {}, t("look.nothing")));
    const more = Object.values(notable?.more ?? {}).reduce((sum, one) => sum + one, 0);
    const first = kiosk && found.length > LINES ? (turn * LINES) % (LINES * Math.ceil(found.length / LINES)) : 0;
    const shown = whole ? found : found.slice(first, first + LINES);
    const rest = found.length - shown.length + more;
    const words = t("look.more", { count: number(rest) });
    if (hints.contains(document.activeElement) && hints.children.length) return;
    show(hints, lines, shown.map(hint),
      rest && !kiosk ? h("li", { class: "more" }, whole || found.length === shown.length
        ? h("a", { href: notable.more.alert ? "/alerts" : "/quality", "data-go": "" }, words)
        : h("button", { type: "button", onclick: (event) => { whole = true; event.target.blur(); showHints(); } }, words)) : null,
      rest && kiosk ? h("li", { class: "more dim" }, words) : null);
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
    lookAgain();
  });
  const ages = setInterval(() => {
    for (const one of rows.values()) {
      const text = age(one.at);
      if (one.age.textContent !== text) one.age.textContent = text;
      if (overdue(one.at) !== one.element.classList.contains("stale")) one.fill(one.at);
    }
    sort();
    total();
    lookAgain();
  }, AGES_EVERY_MS);
  const looking = setInterval(look, LOOK_EVERY_MS);
  const turning = kiosk ? setInterval(() => { turn++; showHints(); }, TURN_MS) : null;
  showHints();
  look();
  return {
    title: t("nav.city"),
    close: () => {
      ended();
      clearTimeout(later);
      clearInterval(ages);
      clearInterval(looking);
      clearInterval(turning);
      clearTimeout(asking);
      map.close();
    },
  };
}

/** A line of what to look at. */
function hint(one) {
  return h("li", { class: one.what },
    h("a", { href: one.what === "alert" || one.what === "pending" ? "/alerts" : `/stations/${one.station}`, "data-go": "" },
      h("b", {}, t(`look.${one.what}`)), " ", one.told ? [one.told.code === "all_stale" ? "" : `${nameOf(one.station)}: `, told("hint", one.told, zoneOf(one.station))] : h("span", { lang: "en" }, one.text),
      one.at && one.what !== "stale" && one.told?.code !== "alert_told" ? h("span", { class: "dim" }, ` · ${t(one.what === "pending" ? "look.at" : "since", { at: moment(one.at, zoneOf(one.station)) })}`) : null));
}
